// The state of this tab's console, which a reload finds again: positions, what was chosen, whether it was paused.

const KEY = `console:${location.pathname}`;

export function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // storage is off, or holds something else
  }
}

/** Stores what `state` returns once a second, and when the page is left. */
export function keep(state) {
  const store = () => {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(state()));
    } catch { /* storage is off or full: a reload then begins anew */ }
  };
  setInterval(store, 1000);
  addEventListener("pagehide", store);
}
