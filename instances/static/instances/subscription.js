"use strict";
// Shows the options of the transport that is chosen, and hides those of the others.
document.addEventListener("DOMContentLoaded", () => {
  const select = document.getElementById("id_transport");
  if (!select) return;
  const show = () => {
    for (const options of document.querySelectorAll(".of-transport")) {
      options.hidden = !options.classList.contains(`of-${select.value}`);
    }
  };
  select.addEventListener("change", show);
  show();
});
