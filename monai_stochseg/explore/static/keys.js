// SPDX-License-Identifier: Apache-2.0
// The keys of the page, and the help that lists them.

import { $, h } from "./dom.js";

const HELP = [
  ["← →", "previous, next sample"], ["↑ ↓", "previous, next case"], ["Page Up, Page Down", "next, previous slice"], ["a", "single answer"], ["r", "next reader"],
  ["s", "sample"], ["e", "next uncertainty map"], ["0", "no overlay"], ["n", "hide or show names"], ["?", "this help"],
];

const TAKES_KEYS = "input:not([type=checkbox]), select, textarea, [role=slider], dialog";

export function listen({ set, step, stepCase, cycle, controls, get }) {
  $("help-keys").replaceChildren(...HELP.flatMap(([key, text]) => [h("dt", {}, key), h("dd", {}, text)]));
  const help = () => $("help").open || $("help").showModal();
  $("help-open").addEventListener("click", help);

  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    ArrowUp: () => stepCase(-1),
    ArrowDown: () => stepCase(1),
    PageUp: () => controls.slice(1),
    PageDown: () => controls.slice(-1),
    a: () => get().data?.answer && set({ overlay: "answer" }),
    r: () => cycle(get().data?.readers.map((_, index) => `reader-${index}`) ?? []),
    s: () => get().data?.samples.length && set({ overlay: "sample" }),
    e: () => cycle(get().data?.maps.map(({ id }) => id) ?? []),
    n: () => get().list.hide_names || set({ hide: !get().state.hide }),
    0: () => get().data && set({ overlay: "none" }),
    "?": help,
  };

  // While it is caught, NiiVue does not see a key: its own keys would do other things.
  for (const type of ["keydown", "keyup"]) {
    window.addEventListener(type, (event) => {
      if (event.target === $("canvas") && event.key !== "Tab") event.stopPropagation();
      if (type === "keyup" || event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
      if (event.target instanceof Element && event.target.closest(TAKES_KEYS)) return;
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }, { capture: true });
  }
}
