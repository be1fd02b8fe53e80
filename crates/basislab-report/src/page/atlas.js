// Single dimensions: a heat map over the sites, and what one dimension does.
(({ element, shape, number, apart, path }) => {
  const holder = document.getElementById("atlas");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const root = document.getElementById("dimensions");
  const MOST_ROWS = 128;
  const MOST_WRITTEN = 8;

  const state = { run: data.runs[data.start], step: 0, colour: "ratio", order: "energy", dim: null, all: false };
  const basis = () => state.run.bases.find((one) => one.basis === state.basis);
  const list = (step, site) => basis().lists[step][site];
  const dims = () => state.run.dims || Array.from({ length: state.run.d }, (_, dim) => dim);
  const placeOf = (dim) => dims().indexOf(dim);
  const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

  // What is drawn of a dimension: its place among those of the list.
  const quantities = {
    ratio: { label: "RMS / RMS of the median dimension", low: () => 0.5, of: (one, place) => one.rms[place] / one.median },
    part: { label: "part of the kurtosis of all values", low: () => 1.5 / state.run.d, of: (one, place) => one.parts[place] },
  };
  const value = (step, site, place) => {
    const one = list(step, site);
    const found = one ? quantities[state.colour].of(one, place) : null;
    return Number.isFinite(found) ? found : null;
  };
  const energy = (step, site, place) => {
    const one = list(step, site);
    return one ? one.rms[place] ** 2 : null;
  };
  // One scale for all steps, so that the slider shows growth.
  const range = () => {
    const low = quantities[state.colour].low();
    let high = 4 * low;
    state.run.steps.forEach((_, step) => state.run.sites.forEach((_, site) => dims().forEach((_, place) => {
      high = Math.max(high, value(step, site, place) || 0);
    })));
    return [low, high];
  };
  const standing = (dim) => basis().out.filter((one) => one[0] === dim);
  const since = (dim) => {
    const steps = standing(dim).map((one) => one[2]);
    return steps.length ? Math.min(...steps) : null;
  };

  const chooser = (label, chosen) => {
    const made = element("label", {}, `${label} `);
    const select = element("select");
    made.append(select);
    controls.append(made);
    select.addEventListener("change", () => {
      chosen(select.value);
      update();
    });
    return (options, now) => {
      select.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
      select.value = now;
    };
  };
  const goTo = (run) => {
    state.run = run;
    if (!run.bases.some((one) => one.basis === state.basis)) state.basis = run.bases[0].basis;
    state.step = run.steps.length - 1;
    state.dim = null;
  };
  const controls = element("div", { class: "choosers" });
  const arm = chooser("Arm", (name) => {
    const runs = data.runs.filter((run) => run.arm === name);
    goTo(runs.find((run) => run.seed === state.run.seed) || runs[0]);
  });
  const seed = chooser("Seed", (text) => goTo(data.runs.find((run) => run.arm === state.run.arm && String(run.seed) === text)));
  const ofBasis = chooser("Basis", (name) => {
    state.basis = name;
    state.dim = null;
  });
  const colour = chooser("Colour", (name) => (state.colour = name));
  const order = chooser("Order", (name) => (state.order = name));

  const moment = element("label", { class: "moment" });
  const slider = element("input", { type: "range", min: 0, step: 1 });
  const output = element("output");
  moment.append(element("span", {}, "Step"), slider, output);
  slider.addEventListener("input", () => {
    state.step = Number(slider.value);
    update();
  });

  const said = element("p", { class: "said" });
  const legend = element("p", { class: "heat-legend about" });
  const wide = element("div", { class: "wide heat-map" });
  const more = element("button", { type: "button" });
  more.addEventListener("click", () => {
    state.all = !state.all;
    update();
  });
  const one = element("div", { class: "dimension" });
  const agreement = element("div", { class: "agreement" });
  root.append(controls, moment, said, legend, wide, more, one, agreement);

  const swatch = (share, text) => {
    const made = element("span", { class: share > 0.6 ? "heat hot" : "heat" }, text);
    made.style.setProperty("--share", `${Math.round(100 * share)}%`);
    return made;
  };

  const ordered = () => {
    const places = dims().map((_, place) => place);
    if (state.order === "number") return places;
    const size = (place) => state.run.sites.reduce((sum, _, site) => {
      const one = list(state.step, site);
      return sum + (one && one.median > 0 ? (one.rms[place] / one.median) ** 2 : 0);
    }, 0);
    const sizes = places.map(size);
    return places.sort((a, b) => sizes[b] - sizes[a]);
  };

  const heatMap = () => {
    const { sites, short, steps } = state.run;
    const [low, high] = range();
    const share = (found) => Math.min(1, Math.max(0, Math.log(found / low) / Math.log(high / low)));
    const table = element("table", { role: "grid", "aria-label": "Dimensions by site", class: sites.length > MOST_WRITTEN ? "many" : "few" });
    const head = element("tr");
    head.append(element("th", { scope: "col" }, "dimension"));
    short.forEach((site) => {
      const made = element("th", { scope: "col" });
      made.append(element("span", {}, site));
      head.append(made);
    });
    head.append(element("th", { scope: "col" }, "stands out since step"));
    const top = element("thead");
    top.append(head);
    const body = element("tbody");
    const places = ordered();
    // The largest that stands out, or the largest.
    if (state.dim === null) state.dim = dims()[places.find((place) => since(dims()[place]) !== null) ?? places[0]];
    const shown = state.all ? places : places.slice(0, MOST_ROWS);
    const hasChosen = shown.some((place) => dims()[place] === state.dim);
    shown.forEach((place, index) => {
      const dim = dims()[place];
      const chosen = dim === state.dim;
      const row = element("tr", { tabindex: chosen || (!hasChosen && !index) ? 0 : -1, "aria-selected": String(chosen), "data-dim": dim });
      const born = since(dim);
      row.append(element("th", { scope: "row" }, born === null ? String(dim) : `▸ ${dim}`));
      sites.forEach((site, at) => {
        const found = value(state.step, at, place);
        const cell = element("td");
        if (found !== null) {
          const mark = standing(dim).find((one) => one[1] === at && one[2] <= steps[state.step]);
          const text = sites.length > MOST_WRITTEN ? "" : String(Number(found.toPrecision(2)));
          const made = swatch(share(found), text);
          if (mark) made.classList.add("out");
          cell.title = `dimension ${dim}, ${site}: ${number(found)}${mark ? ", stands out" : ""}`;
          cell.append(made);
        }
        row.append(cell);
      });
      row.append(element("td", { class: "number" }, born === null ? "" : String(born)));
      body.append(row);
    });
    table.append(top, body);
    wide.replaceChildren(table);
    more.hidden = places.length <= MOST_ROWS;
    more.textContent = state.all ? `Show ${MOST_ROWS}` : `Show all ${places.length}`;
    legend.replaceChildren(element("span", {}, `${quantities[state.colour].label}: `));
    [0, 0.25, 0.5, 0.75, 1].forEach((share) => {
      const text = String(Number((low * (high / low) ** share).toPrecision(2)));
      legend.append(swatch(share, share ? text : `≤ ${text}`));
    });
    const framed = swatch(0, "\u00a0");
    framed.classList.add("out");
    if (data.compared) legend.append(element("span", {}, " framed, ▸: stands out of random bases "), framed);
  };
  // One row is reached by Tab; arrows go on from it.
  const choose = (row, andFocus) => {
    state.dim = Number(row.dataset.dim);
    wide.querySelectorAll("tbody tr").forEach((other) => {
      other.setAttribute("aria-selected", String(other === row));
      other.tabIndex = other === row ? 0 : -1;
    });
    drillDown();
    if (andFocus) row.focus();
  };
  wide.addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    if (row) choose(row, true);
  });
  wide.addEventListener("keydown", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row) return;
    const rows = [...row.parentNode.children];
    const now = rows.indexOf(row);
    const next = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") choose(row, true);
    else if (next !== undefined && rows[next]) {
      row.tabIndex = -1;
      rows[next].tabIndex = 0;
      rows[next].focus();
    } else if (next === undefined) return;
    event.preventDefault();
  });

  // Lines over places; `lines` has [class, values], a value for each place or null.
  const chart = (title, label, xs, names, lines) => {
    const [width, height, left, right, head, foot] = [330, 190, 46, 10, 12, 40];
    const figure = element("div");
    figure.append(element("h4", {}, title));
    const svg = shape(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    const high = Math.max(...lines.flatMap(([, values]) => values.filter((one) => one !== null)), 1e-12);
    const span = xs[xs.length - 1] - xs[0] || 1;
    const x = (at) => (xs.length > 1 ? left + ((at - xs[0]) / span) * (width - left - right) : (left + width - right) / 2);
    const y = (at) => height - foot - (at / high) * (height - foot - head);
    [0, high / 2, high].forEach((at) => {
      shape(svg, "path", { d: `M${left} ${y(at)}H${width - right}`, class: "gridline" });
      shape(svg, "text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, null, String(Number(at.toPrecision(2))));
    });
    lines.forEach(([look, values]) => {
      const points = values.map((at, index) => (at === null ? null : [x(xs[index]), y(at)])).filter((at) => at);
      shape(svg, "path", { d: path(points), class: `line ${look}` });
      if (look === "chosen") points.forEach(([cx, cy]) => shape(svg, "circle", { cx, cy, r: 2.5, class: "dot" }));
    });
    apart(names.map((name, index) => [xs[index], name]), x, (text) => 7 * text.length + 8).forEach(([at, name]) => {
      const half = 3.5 * name.length;
      shape(svg, "text", { x: Math.min(Math.max(x(at), half), width - half), y: height - foot + 17, "text-anchor": "middle" }, null, name);
    });
    shape(svg, "text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle", class: "soft" }, null, label);
    return figure;
  };

  const written = () => {
    const { writes, lacking, steps } = state.run;
    const place = placeOf(state.dim);
    const added = writes.map(([label, from, to]) => {
      const [before, after] = [from === null ? 0 : energy(state.step, from, place), energy(state.step, to, place)];
      return [label, before === null || after === null ? null : after - before];
    });
    const made = element("div", { class: "writes" });
    made.append(element("h4", {}, `Energy added by each write, step ${steps[state.step]}`));
    const most = Math.max(...added.map(([, one]) => Math.abs(one || 0)), 1e-300);
    const least = Math.min(0, ...added.map(([, one]) => one || 0));
    const zero = -least / (most - least);
    const table = element("table");
    const line = (label, found, bar) => {
      const row = element("tr");
      const cell = element("td", { class: "bar" });
      if (bar && found !== null) {
        const drawn = element("span", found < 0 ? { class: "negative" } : {});
        const size = Math.abs(found) / (most - least);
        drawn.style.setProperty("margin-left", `${100 * (found < 0 ? zero - size : zero)}%`);
        drawn.style.setProperty("width", `${100 * size}%`);
        cell.append(drawn);
      }
      row.append(element("th", { scope: "row" }, label), element("td", { class: "number" }, found === null ? "not recorded" : number(found)), cell);
      table.append(row);
    };
    added.forEach(([label, found]) => line(label, found, true));
    const last = writes.length ? writes[writes.length - 1][2] : null;
    if (last !== null) line(`sum: the energy at ${state.run.sites[last]}`, energy(state.step, last, place), false);
    made.append(table);
    lacking.forEach((sentence) => made.append(element("p", { class: "about" }, sentence)));
    made.append(element("p", { class: "about" }, "Mean square after a write less that before it; negative where the write cancels what was there."));
    return made;
  };

  const drillDown = () => {
    const { steps, sites, short, writes } = state.run;
    const place = placeOf(state.dim);
    // What lies after the last norm has another scale.
    const stream = writes.length ? writes.map((write) => write[2]) : sites.map((_, site) => site);
    const last = stream[stream.length - 1];
    const rms = (step, site) => (list(step, site) ? list(step, site).rms[place] : null);
    const median = (step, site) => (list(step, site) ? list(step, site).median : null);
    const overSteps = stream.map((site) => [site === last ? "chosen" : "other", steps.map((_, step) => rms(step, site))]);
    const overSites = steps.map((_, step) => [step === state.step ? "chosen" : "other", stream.map((site) => rms(step, site))]);
    const front = (lines) => lines.sort((a, b) => (a[0] === "chosen") - (b[0] === "chosen"));
    const found = standing(state.dim).sort((a, b) => a[1] - b[1]);
    const title = element("h3", { "aria-live": "polite" }, `Dimension ${state.dim}`);
    const where = found.map(([, site, born, ratio, limit]) => `${sites[site]} since step ${born} (${number(ratio)} times the median dimension at the last step, limit ${number(limit)})`);
    const grid = element("div", { class: "charts" });
    grid.append(
      chart("RMS over steps", "optimizer step", steps.map(Math.log1p), steps.map(String), front(overSteps.concat([["median", steps.map((_, step) => median(step, last))]]))),
      chart("RMS over sites", "site", stream.map((_, at) => at), stream.map((site) => short[site]), front(overSites.concat([["median", stream.map((site) => median(state.step, site))]]))),
      written(),
    );
    one.replaceChildren(title, element("p", { class: "said" }, where.length ? `Stands out at ${where.join("; ")}.` : data.compared ? "Does not stand out at the last step." : ""), grid);
    one.append(element("p", { class: "about" }, `Thick: at ${sites[last]}, and after step ${steps[state.step]}; thin: at the other sites, and after the other steps; dashed: the median dimension.${stream.length < sites.length ? " What lies after the last norm is left out of lines and writes." : ""}`));
  };

  const agree = () => {
    const found = data.agreements.find((one) => one.arm === state.run.arm && one.basis === state.basis);
    agreement.replaceChildren();
    if (!found) return;
    agreement.append(element("h3", {}, "Agreement between seeds"), element("p", { class: "said" }, found.sentence));
    if (!found.rows.length) return;
    const table = element("table");
    const line = (cells, tag) => {
      const row = element("tr");
      cells.forEach((text) => row.append(element(tag, { class: "number" }, text)));
      table.append(row);
    };
    line(["seeds", "dimensions that stand out in so many", "expected by chance"], "th");
    found.rows.forEach((row) => line(row.map((one) => number(one)), "td"));
    agreement.append(table);
    const named = found.shared.slice(0, 20).map(([dim, seeds]) => `${dim} (${seeds})`).join(", ");
    const rest = found.shared.length > 20 ? ` and ${found.shared.length - 20} more` : "";
    if (named) agreement.append(element("p", {}, `Dimensions, with their number of seeds: ${named}${rest}.`));
    agreement.append(element("p", { class: "about" }, "Seeds begin from independent weights, so that a dimension's number alone means nothing from one seed to another: what exceeds chance here says that something else, such as the architecture, chooses dimensions by their number."));
  };

  const update = () => {
    const { run } = state;
    const names = [...new Set(data.runs.map((one) => one.arm))];
    arm(names.map((name) => [name, name]), run.arm);
    seed(data.runs.filter((one) => one.arm === run.arm).map((one) => [String(one.seed), String(one.seed)]), String(run.seed));
    const called = { standard: "standard", optimizer: "the optimizer's own" };
    ofBasis(run.bases.map((one) => [one.basis, called[one.basis] || one.basis]), state.basis);
    colour(Object.entries(quantities).map(([key, { label }]) => [key, label]), state.colour);
    order([["energy", "by energy, mean over sites"], ["number", "by number"]], state.order);
    const when = `step ${run.steps[state.step]}`;
    slider.max = run.steps.length - 1;
    slider.value = state.step;
    slider.hidden = run.steps.length < 2;
    slider.setAttribute("aria-valuetext", when);
    output.textContent = slider.hidden ? `${run.steps[state.step]}` : when;
    const out = [...new Set(basis().out.map((one) => one[0]))].sort((a, b) => since(a) - since(b) || a - b);
    const named = out.slice(0, 12).map((dim) => `${dim} (since step ${since(dim)})`).join(", ");
    const which = out.length ? `: ${named}${out.length > 12 ? ` and ${out.length - 12} more` : ""}` : "";
    const last = run.steps[run.steps.length - 1];
    const count = out.length ? plural(out.length, "dimension") : "no dimension";
    const stand = `${count} ${out.length < 2 ? "stands" : "stand"} out of random bases after step ${last}`;
    said.textContent = `${run.arm}, seed ${run.seed}${data.compared ? `: ${stand}${which}` : ""}.`;
    heatMap();
    drillDown();
    agree();
  };
  state.basis = data.basis;
  goTo(state.run);
  update();
})(page);
