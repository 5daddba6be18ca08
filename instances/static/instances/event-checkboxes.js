"use strict";
// The buttons "all" and "none" of a group of checkboxes; without scripts they are hidden.
document.addEventListener("DOMContentLoaded", () => {
  for (const tools of document.querySelectorAll(".event-tools[hidden]")) tools.hidden = false;
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-check]");
  if (!button) return;
  for (const box of button.closest("fieldset").querySelectorAll("input[type=checkbox]")) {
    if (box.checked !== (button.dataset.check === "all")) box.click();
  }
});
