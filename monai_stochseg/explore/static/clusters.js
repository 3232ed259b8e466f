// SPDX-License-Identifier: Apache-2.0
// The clusters of like samples.

import { $, h, percent } from "./dom.js";
import { clusterColour } from "./samples.js";

export function makeClusters({ set }) {
  const rows = h("ul", { id: "cluster-list", class: "rows" });
  $("clusters").replaceChildren(h("h2", { id: "clusters-title" }, "Clusters of like samples"), rows);
  let key = null;

  return {
    render({ state, data }) {
      $("clusters").hidden = !data?.clusters.length;
      if (!data) {
        key = null;
        return;
      }
      if (key !== data) {
        key = data;
        rows.replaceChildren(...data.clusters.map(({ share, text, sample, samples }, index) =>
          h("li", {}, h("button", { type: "button", "data-cluster": index, onclick: () => set({ overlay: "sample", sample, bar: null }) },
            h("span", { class: "row" }, h("i", { class: "dot", style: { background: clusterColour(index) } }), h("span", { class: "grow" }, text || percent(share)),
              h("span", { class: "quiet" }, `${samples.length} ${samples.length === 1 ? "sample" : "samples"}`)),
            h("span", { class: "share" }, h("i", { style: { width: `${100 * share}%`, background: clusterColour(index) } }))))));
      }
      rows.querySelectorAll("button").forEach((button, index) =>
        button.setAttribute("aria-pressed", state.overlay === "sample" && data.samples[state.sample]?.cluster === index));
    },
  };
}
