// SPDX-License-Identifier: Apache-2.0
// The list of cases.

import { $, h } from "./dom.js";

export function makeCases({ set, nameOf, hidden }, reload) {
  $("reload").addEventListener("click", reload);
  const buttons = new Map();
  let key = "";

  // Scrolls the list alone, never the page.
  function reveal(id) {
    const button = buttons.get(id);
    const box = $("case-list");
    if (!button) return;
    const [above, below] = [button.getBoundingClientRect().top - box.getBoundingClientRect().top, button.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom];
    if (box.contains(document.activeElement)) button.focus({ preventScroll: true });
    if (above < 0) box.scrollTop += above - 4;
    else if (below > 0) box.scrollTop += below + 4;
  }

  return {
    render({ state, list }) {
      $("cases-message").hidden = !list.message;
      $("cases-message").textContent = list.message ?? "";
      const now = JSON.stringify([list.cases, hidden()]);
      if (now !== key) {
        key = now;
        buttons.clear();
        for (const { id } of list.cases) {
          const name = nameOf(id);
          buttons.set(id, h("button", { type: "button", "data-case-id": id, title: name, onclick: () => set({ case: id }) }, name));
        }
        $("case-list").replaceChildren(...[...buttons.values()].map((button) => h("li", {}, button)));
        reveal(state.case);
      }
      for (const [id, button] of buttons) {
        if (id === state.case) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
      }
    },
    reveal,
  };
}
