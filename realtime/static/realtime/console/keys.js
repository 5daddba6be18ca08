// The page's keys. In a field they are letters.

export function keys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target;
    const isField = target.closest("input, textarea, select");
    if (event.key === "Escape" && isField) {
      target.blur();
      return;
    }
    const isControl = target.closest("button, a, summary, input, textarea, select, [role=tab]");
    if (isField || (isControl && (event.key === " " || event.key === "Enter"))) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
