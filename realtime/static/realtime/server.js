// Requests of pages to this server, and what its answers say about the session.

/** Raised where the user may not see this any more; `isSignedOut` if he has to log in. */
export class NoAccess extends Error {
  constructor(isSignedOut, message) {
    super(message);
    this.isSignedOut = isSignedOut;
  }
}

const REASONS = {
  403: "Your account may not see this any more.",
  404: "This was deleted or renamed, or you may not see it any more.",
};

/** Fetches JSON. Throws NoAccess, or another error for what may succeed later. `reasons`: a page's own sentences for 403 and 404. */
export async function fetchJson(url, { reasons = {}, ...options } = {}) {
  const response = await fetch(url, { redirect: "manual", credentials: "same-origin", ...options });
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new NoAccess(true, "You are logged out.");
  }
  const reason = { ...REASONS, ...reasons }[response.status];
  if (reason) throw new NoAccess(false, reason);
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return response.json();
}

/** Returns the token of Django's CSRF check: that of the cookie, which a log-in in another tab replaces. */
export function csrfToken() {
  const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
  return cookie ? cookie.slice("csrftoken=".length) : document.querySelector("input[name=csrfmiddlewaretoken]").value;
}
