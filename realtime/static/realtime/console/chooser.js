// The field that chooses an instance: it offers names as they are typed.

import { fetchJson } from "../server.js";

const DELAY = 150;

export function chooser(config) {
  const names = document.getElementById("instances");
  for (const field of document.querySelectorAll("input[list=instances]")) {
    let timer = 0;
    const offer = async () => {
      const query = new URLSearchParams({ q: field.value.trim() });
      const { instances } = await fetchJson(`${config.base}all/instances/names?${query}`).catch(() => ({ instances: [] }));
      names.replaceChildren(...instances.map(({ name }) => {
        const option = document.createElement("option");
        option.value = name;
        return option;
      }));
    };
    field.addEventListener("focus", offer, { once: true });
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(offer, DELAY);
    });
  }
}
