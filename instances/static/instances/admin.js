"use strict";
// The box that searches everything: Ctrl+K goes there, Escape leaves it and puts what was found away.
document.addEventListener("keydown", (event) => {
  const box = document.getElementById("search-everything");
  if (!box) return;
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (box.checkVisibility()) box.select();
    else location.assign(box.form.action);
  } else if (event.key === "Escape" && box.form.contains(document.activeElement)) {
    document.getElementById("search-hits").replaceChildren();
    box.blur();
  }
});
document.addEventListener("click", (event) => {
  if (!event.target.closest(".search-box")) document.getElementById("search-hits")?.replaceChildren();
});

// Names links that are an icon, whose ligature screen readers would read, as their tooltips name them.
document.addEventListener("DOMContentLoaded", () => {
  for (const link of document.querySelectorAll("a.addlink[title]")) link.setAttribute("aria-label", link.title);
});

// Names select2's boxes for screen readers as their selects are named: select2 itself gives them no name.
document.addEventListener("DOMContentLoaded", () => {
  const jQuery = window.django?.jQuery;
  if (!jQuery) return;
  const nameOf = (select) => select.labels[0]?.textContent.trim() || "Choices";
  const parts = ".select2-selection, .select2-selection__rendered, .select2-search__field";
  // when jQuery is ready, because Django's admin makes the boxes then, and its script came before this one
  jQuery(() => {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      for (const part of select.parentElement.querySelectorAll(parts)) part.setAttribute("aria-label", nameOf(select));
    }
  });
  jQuery(document).on("select2:open", (event) => {
    const field = document.querySelector(".select2-container--open .select2-search__field");
    field?.setAttribute("aria-label", `Search: ${nameOf(event.target)}`);
  });
});
