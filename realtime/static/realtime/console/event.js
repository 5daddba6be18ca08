// The page of an event: its JSON folds, its parts can be copied, and pending deliveries are looked at again.

import { copy, setUpCopyButtons } from "../copy.js";
import { fetchJson } from "../server.js";
import { tree } from "./tree.js";

const INTERVAL = 3000;

const envelope = document.getElementById("envelope");
if (envelope) {
  fetchJson(envelope.dataset.url).then(
    (found) => {
      envelope.replaceChildren(tree(found, 3));
      const button = document.getElementById("copy-envelope");
      button.addEventListener("click", () => copy(JSON.stringify(found, null, 2), button));
    },
    (error) => { envelope.textContent = error.message; },
  );
}

const link = document.getElementById("copy-link");
link.addEventListener("click", () => copy(location.href, link));
setUpCopyButtons();

/** Puts the part about deliveries in again while some are pending; what is unfolded stays so. */
function refresh() {
  const live = document.getElementById("live");
  if (live.dataset.pending !== "yes") return;
  setTimeout(async () => {
    if (!document.hidden && !live.contains(document.activeElement)) {
      const response = await fetch(location.href, { redirect: "manual" }).catch(() => null);
      if (response?.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const found = page.getElementById("live");
        for (const unfolded of live.querySelectorAll("details[open][id]")) {
          const same = found.querySelector(`#${unfolded.id}`);
          if (same) same.open = true;
        }
        live.replaceWith(document.adoptNode(found));
      }
    }
    refresh();
  }, INTERVAL);
}
refresh();
