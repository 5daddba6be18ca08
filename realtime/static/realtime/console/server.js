// Requests to the routes of the console, and what their answers say about the session.

/** Raised where the user may not see this any more; `isSignedOut` if he has to log in. */
export class NoAccess extends Error {
  constructor(isSignedOut, message) {
    super(message);
    this.isSignedOut = isSignedOut;
  }
}

/** Fetches JSON. Throws NoAccess, or another error for what may succeed later. */
export async function fetchJson(url, options = {}) {
  const response = await fetch(url, { redirect: "manual", credentials: "same-origin", ...options });
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new NoAccess(true, "You are logged out.");
  }
  if (response.status === 403) throw new NoAccess(false, "Your account may not see these events.");
  if (response.status === 404) throw new NoAccess(false, "The instance was deleted or renamed, or you may not see it any more.");
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return response.json();
}

/** Returns the token of Django's CSRF check: that of the cookie, which a log-in in another tab replaces. */
export function csrfToken() {
  const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
  return cookie ? cookie.slice("csrftoken=".length) : document.querySelector("input[name=csrfmiddlewaretoken]").value;
}
