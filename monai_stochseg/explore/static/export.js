// SPDX-License-Identifier: Apache-2.0
// Saves what is shown as a file, and copies the link to this view.

import { $, h } from "./dom.js";
import { urls } from "./api.js";
import { overlayId } from "./state.js";

// A fetch first: the server may answer with an error, which belongs into the banner and not onto a new page.
async function save(url) {
  const response = await fetch(url, { cache: "no-store" }).catch(() => null);
  if (!response) throw new Error("The server does not answer.");
  if (!response.ok) {
    const text = await response.json().then((body) => body.error, () => null);
    throw new Error(text ?? `The server answers ${response.status}.`);
  }
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const name = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
  const address = URL.createObjectURL(await response.blob());
  const link = h("a", { href: address, download: name ? decodeURIComponent(name) : (/filename="?([^";]+)"?/i.exec(disposition)?.[1] ?? "labels.nii") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

export function makeExport({ report, hidden }) {
  let now = null;
  const guarded = (url) => async (event) => {
    event.target.disabled = true;
    try {
      await save(url(now));
    } catch (error) {
      report(error);
    } finally {
      event.target.disabled = false;
    }
  };
  const shown = h("button", { type: "button", id: "export-shown", onclick: guarded(({ state }) => (state.overlay === "edit" ? urls.edit(state.case, state.edit, hidden()) : urls.layer(state.case, overlayId(state), hidden()))) });
  const answer = h("button", { type: "button", id: "export-answer", onclick: guarded(({ state }) => urls.layer(state.case, "answer", hidden())) }, "Save single answer");
  $("export").replaceChildren(h("h2", { id: "export-title" }, "Export"), h("div", { class: "buttons" }, shown, answer));

  $("copy-link").addEventListener("click", async () => {
    let text = "Link copied";
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      // Over plain HTTP there is no clipboard but on this machine: the link is selected instead.
      window.prompt("Copy this link:", location.href);
      text = "Copy link";
    }
    $("copy-link").textContent = text;
    setTimeout(() => ($("copy-link").textContent = "Copy link"), 2000);
  });

  return {
    render({ state, data }) {
      now = { state };
      $("export").hidden = !data;
      if (!data) return;
      const { overlay } = state;
      const name = { sample: `sample ${state.sample + 1}`, answer: "single answer", edit: "edit", none: "" }[overlay]
        ?? data.readers[Number(/^reader-(\d+)$/.exec(overlay)?.[1])]?.name ?? data.maps.find(({ id }) => id === overlay)?.name ?? overlay;
      shown.hidden = overlay === "none" || overlay === "answer";
      shown.textContent = `Save ${name}`;
      answer.hidden = !data.answer;
    },
  };
}
