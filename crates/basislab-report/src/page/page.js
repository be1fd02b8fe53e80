"use strict";
const page = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("figures");

  // Texts of a configuration get into the page through textContent alone.
  const element = (name, attributes = {}, text) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const shape = (parent, name, attributes, ink, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (ink) {
      made.classList.add("ink");
      made.style.setProperty("--light", ink[0]);
      made.style.setProperty("--dark", ink[1]);
    }
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const number = (value) => (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4))));

  // From values to pixels.
  const forward = { linear: (v) => v, log: (v) => Math.log(Math.max(v, 1e-300)), log1p: (v) => Math.log1p(Math.max(v, 0)) };
  const scale = (axis, from, to) => {
    const of = forward[axis.spacing];
    return (value) => from + Math.min(1, Math.max(0, (of(value) - axis.low) / (axis.high - axis.low))) * (to - from);
  };
  // Ticks whose labels do not touch; the first and the last stay.
  const apart = (ticks, at, extent) => {
    const touch = (a, b) => Math.abs(at(b[0]) - at(a[0])) < (extent(a[1]) + extent(b[1])) / 2;
    const kept = [];
    ticks.forEach((tick, index) => {
      if (index + 1 === ticks.length) while (kept.length > 1 && touch(kept[kept.length - 1], tick)) kept.pop();
      if (!kept.length || !touch(kept[kept.length - 1], tick)) kept.push(tick);
    });
    return kept;
  };
  const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  // How wide a line is here that is so many pixels wide in the files.
  const thick = (width) => 0.5 + width / 2;

  const swatch = (button, key) => {
    const svg = shape(button, "svg", { viewBox: "0 0 28 14", "aria-hidden": "true" });
    if (key.kind === "line" || key.kind === "single") {
      const line = shape(svg, "path", { d: "M0 7H28", class: "line", "stroke-width": thick(key.width) }, key.ink);
      if (key.dash) line.setAttribute("stroke-dasharray", key.dash.join(" "));
    }
    if (key.kind === "band") shape(svg, "rect", { x: 0, y: 1, width: 28, height: 12, class: "band" });
    if (key.kind === "band") shape(svg, "path", { d: "M0 7H28", class: "middle" });
    if (key.kind === "level") shape(svg, "path", { d: "M0 7H28", class: "level" });
    if (key.kind === "dots") shape(svg, "circle", { cx: 14, cy: 7, r: 4, class: key.hollow ? "dot hollow" : "dot" }, key.ink);
    if (key.kind === "ring") shape(svg, "circle", { cx: 14, cy: 7, r: 6, class: "ring" });
    if (key.kind === "square") shape(svg, "rect", { x: 8, y: 1, width: 12, height: 12, class: "square" });
    if (key.kind === "cross") shape(svg, "path", { d: "M9 2L19 12M9 12L19 2", class: "cross" });
  };

  const SINGLE = "each seed";

  const show = (figure) => {
    const moments = figure.moments;
    const state = { at: moments.length - 1, hidden: new Set(), points: [], found: null };
    const root = element("figure", { id: `figure-${figure.name}` });
    const title = element("h3", { id: `title-${figure.name}` });
    const about = element("p", { class: "about" });
    const keys = element("div", { class: "keys", role: "group", "aria-label": "Legend: show or hide" });
    const plot = element("div", { class: "plot" });
    const drawing = document.createElementNS(SVG, "svg");
    const tip = element("div", { class: "tip", role: "status", hidden: "" });
    const numbers = element("details");
    numbers.append(element("summary", {}, "The numbers"));
    drawing.setAttribute("role", "img");
    drawing.setAttribute("tabindex", "0");
    drawing.setAttribute("aria-labelledby", `title-${figure.name}`);
    drawing.setAttribute("aria-roledescription", "figure; arrow keys go from point to point");
    plot.append(drawing, tip);
    root.append(title, about);

    if (moments.length > 1) {
      const row = element("label", { class: "moment" });
      const slider = element("input", { type: "range", min: 0, max: moments.length - 1, step: 1 });
      const output = element("output");
      slider.value = state.at;
      const moved = () => {
        state.at = Number(slider.value);
        output.textContent = moments[state.at].when;
        slider.setAttribute("aria-valuetext", moments[state.at].when);
        update();
      };
      slider.addEventListener("input", moved);
      output.textContent = moments[state.at].when;
      slider.setAttribute("aria-valuetext", moments[state.at].when);
      row.append(element("span", {}, "Moment"), slider, output);
      root.append(row);
    }
    root.append(keys, plot, numbers);
    place.append(root);

    // What stands in the legend is hidden by its name, so that a slider keeps it hidden.
    const labels = new Map();
    const button = (key) => {
      const made = element("button", { type: "button", "aria-pressed": "true" });
      swatch(made, key);
      made.append(element("span", {}, key.label));
      const detail = element("span", { class: "about" });
      made.append(detail);
      made.addEventListener("click", () => {
        const hide = !state.hidden.has(key.label);
        if (hide) state.hidden.add(key.label);
        else state.hidden.delete(key.label);
        made.setAttribute("aria-pressed", String(!hide));
        update();
      });
      keys.append(made);
      labels.set(key.label, { made, detail });
    };
    moments.forEach((moment) => moment.keys.forEach((key) => labels.has(key.label) || button(key)));
    const marks = (moment) => moment.panels.flatMap((panel) => panel.marks);
    if (moments.some((moment) => marks(moment).some((mark) => mark.kind === "line" && mark.seed !== undefined))) {
      button({ kind: "single", label: SINGLE, width: 1 });
    }

    const isHidden = (moment, mark) =>
      mark.of.some((key) => state.hidden.has(moment.keys[key].label)) ||
      (mark.kind === "line" && mark.seed !== undefined && state.hidden.has(SINGLE));
    const name = (moment, mark) => (mark.of.length ? moment.keys[mark.of[0]].label : mark.kind);
    const whose = (mark) => (mark.seed === undefined ? "" : `, seed ${mark.seed}`);
    const written = (moment, x) => {
      if (moment.places && moment.places[x] !== undefined) return moment.places[x];
      const tick = moment.x.ticks.find((tick) => tick[0] === x);
      return tick ? tick[1] : number(x);
    };

    const draw = () => {
      const moment = moments[state.at];
      const width = Math.max(280, Math.round(plot.clientWidth));
      const tall = Math.round(Math.min(380, Math.max(230, width * 0.5)));
      const heights = moment.panels.map((_, index) => (moment.panels.length === 1 ? tall : Math.round(tall * (index ? 0.55 : 0.75))));
      const [left, right, head, foot] = [52, 10, 26, 46];
      drawing.replaceChildren();
      state.points = [];
      const x = scale(moment.x, left, width - right);
      const ticks = apart(moment.x.ticks, x, (text) => 7 * text.length + 10);
      let top = 0;
      moment.panels.forEach((panel) => {
        const from = top + head;
        const to = from + heights[moment.panels.indexOf(panel)] - head;
        const y = scale(panel.y, to, from);
        shape(drawing, "text", { x: 0, y: top + 14 }, null, panel.y.label);
        ticks.forEach(([value]) => shape(drawing, "path", { d: `M${x(value)} ${from}V${to}`, class: "gridline" }));
        apart(panel.y.ticks, y, () => 16).forEach(([value, label]) => {
          shape(drawing, "path", { d: `M${left} ${y(value)}H${width - right}`, class: "gridline" });
          shape(drawing, "text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, null, label);
        });
        panel.marks.filter((mark) => !isHidden(moment, mark)).forEach((mark) => {
          paint(moment, mark, x, y, [left, width - right, from]);
        });
        shape(drawing, "path", { d: `M${left} ${from}V${to}H${width - right}`, class: "axis" });
        top = to + 12;
      });
      const bottom = top - 12;
      ticks.forEach(([value, label]) => {
        const at = x(value);
        const half = 3.5 * label.length;
        shape(drawing, "text", { x: Math.min(at, width - half), y: bottom + 17, "text-anchor": "middle" }, null, label);
      });
      shape(drawing, "text", { x: (left + width - right) / 2, y: bottom + 37, "text-anchor": "middle" }, null, moment.x.label);
      drawing.setAttribute("viewBox", `0 0 ${width} ${bottom + foot}`);
      state.width = width;
    };

    const paint = (moment, mark, x, y, [left, right, from]) => {
      const at = mark.points.map((point) => [x(point[0]), y(point[1])]);
      const reachable = () => mark.points.forEach((point, index) => {
        state.points.push({ at: at[index], point, mark });
      });
      if (mark.kind === "line") {
        const attributes = { d: path(at), class: mark.seed === undefined ? "line" : "line single" };
        if (mark.width) attributes["stroke-width"] = thick(mark.width);
        if (mark.dash) attributes["stroke-dasharray"] = mark.dash.join(" ");
        shape(drawing, "path", attributes, mark.ink);
        if (moment.dots && mark.width && !mark.reference) at.forEach(([cx, cy]) => shape(drawing, "circle", { cx, cy, r: 2.5, class: "dot" }, mark.ink));
        reachable();
      } else if (mark.kind === "dots") {
        const look = mark.hollow ? "dot hollow" : "dot";
        at.forEach(([cx, cy]) => shape(drawing, "circle", { cx, cy, r: 4, class: look, opacity: 0.8 }, mark.ink));
        reachable();
      } else if (mark.kind === "band" && mark.bars) {
        mark.points.forEach(([value, low, high], index) => {
          shape(drawing, "rect", { x: x(value) - 4, y: y(high), width: 8, height: Math.max(0, y(low) - y(high)), class: "band" });
          shape(drawing, "path", { d: `M${x(value) - 4} ${y(mark.middle[index][1])}h8`, class: "middle" });
        });
      } else if (mark.kind === "band") {
        const high = mark.points.map((point) => [x(point[0]), y(point[2])]);
        shape(drawing, "path", { d: `${path(high.concat(at.slice().reverse()))}Z`, class: "band" });
        shape(drawing, "path", { d: path(mark.middle.map((point) => [x(point[0]), y(point[1])])), class: "middle" });
      } else if (mark.kind === "level") {
        shape(drawing, "path", { d: `M${left} ${y(mark.points[0][1])}H${right}`, class: "level" });
      } else if (mark.kind === "ring") {
        at.forEach(([cx, cy]) => shape(drawing, "circle", { cx, cy, r: 8, class: "ring" }));
      } else if (mark.kind === "square") {
        at.forEach(([cx, cy]) => shape(drawing, "rect", { x: cx - 6, y: cy - 6, width: 12, height: 12, class: "square" }));
        reachable();
      } else if (mark.kind === "cross") {
        at.forEach(([cx]) => shape(drawing, "path", { d: `M${cx - 5} ${from}l10 10m-10 0l10 -10`, class: "cross" }));
      }
    };

    // A point's values, and the random bases at its place.
    const tell = (index) => {
      const moment = moments[state.at];
      const found = state.points[index];
      drawing.querySelectorAll(".found").forEach((ring) => ring.remove());
      state.found = found ? index : null;
      tip.hidden = !found;
      if (!found) return;
      const [cx, cy] = found.at;
      shape(drawing, "circle", { cx, cy, r: 6, class: "found" });
      const kind = found.mark.kind === "line" && found.mark.seed === undefined ? ", mean" : whose(found.mark);
      const panel = moment.panels.find((panel) => panel.marks.includes(found.mark));
      const lines = [
        `${name(moment, found.mark)}${kind}`,
        `${moment.x.label.split(/[,(]/)[0].trim()}: ${written(moment, found.point[0])}`,
        `${panel.y.label.split(/[,(]/)[0].trim()}: ${number(found.point[1])}`,
      ];
      panel.marks.filter((mark) => mark.kind === "band" && !isHidden(moment, mark)).forEach((band) => {
        const here = band.points.find((point) => point[0] === found.point[0]) || (moment.x.spacing === "linear" && band.points.length === 2 ? band.points[0] : null);
        if (here) lines.push(`random bases: ${number(here[1])} to ${number(here[2])}`);
      });
      tip.textContent = lines.join("\n");
      const ratio = plot.clientWidth / state.width;
      const [px, py] = [cx * ratio, cy * ratio];
      const beside = px + 14 + tip.offsetWidth > plot.clientWidth ? Math.max(0, px - 14 - tip.offsetWidth) : px + 14;
      tip.style.setProperty("left", `${beside}px`);
      tip.style.setProperty("top", `${Math.max(0, py - tip.offsetHeight - 10)}px`);
    };
    const pointed = (event) => {
      const box = drawing.getBoundingClientRect();
      const ratio = state.width / box.width;
      const [px, py] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
      let best = null;
      let least = 40;
      state.points.forEach(({ at, mark }, index) => {
        // Of points at one place, the thick line's.
        const distance = Math.hypot(at[0] - px, at[1] - py) + (mark.kind === "line" && mark.seed !== undefined ? 2 : 0);
        if (distance < least) [best, least] = [index, distance];
      });
      tell(best === null ? -1 : best);
    };
    drawing.addEventListener("pointermove", pointed);
    drawing.addEventListener("pointerdown", pointed);
    drawing.addEventListener("pointerleave", () => tell(-1));
    drawing.addEventListener("blur", () => tell(-1));
    drawing.addEventListener("keydown", (event) => {
      const count = state.points.length;
      const now = state.found === null ? -1 : state.found;
      const mark = now < 0 ? null : state.points[now].mark;
      // Up and down go to the mark before and after.
      const start = (step) => {
        let index = now;
        while (state.points[index] && state.points[index].mark === mark) index += step;
        return Math.min(Math.max(index, 0), count - 1);
      };
      const next = {
        ArrowRight: () => Math.min(now + 1, count - 1),
        ArrowLeft: () => Math.max(now - 1, 0),
        ArrowDown: () => start(1),
        ArrowUp: () => start(-1),
        Escape: () => -1,
      }[event.key];
      if (!next || !count) return;
      event.preventDefault();
      tell(next());
    });

    // The table is made when it is opened.
    const MOST = 5000;
    const tabulate = () => {
      numbers.querySelectorAll("div, p").forEach((old) => old.remove());
      if (!numbers.open) return;
      const moment = moments[state.at];
      const wide = element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "The numbers of the figure" });
      const table = element("table");
      const row = (cells, tag) => {
        const made = element("tr");
        cells.forEach((cell, index) => made.append(element(tag, index > 1 ? { class: "number" } : {}, cell)));
        return made;
      };
      const head = element("thead");
      const body = element("tbody");
      head.append(row(["what", "of", moment.x.label, "value", "low", "high"], "th"));
      let rows = 0;
      moment.panels.forEach((panel) => panel.marks.forEach((mark) => mark.points.forEach((point, index) => {
        if (["cross", "ring"].includes(mark.kind) || isHidden(moment, mark) || ++rows > MOST) return;
        const many = mark.kind === "band";
        const of = mark.seed === undefined ? (mark.kind === "line" ? "mean" : "") : `seed ${mark.seed}`;
        const value = many ? mark.middle[index] && mark.middle[index][1] : point[1];
        const ends = many ? [number(point[1]), number(point[2])] : ["", ""];
        const what = moment.panels.length > 1 ? `${panel.y.label}: ${name(moment, mark)}` : name(moment, mark);
        body.append(row([what, of, point[0] === null ? "" : written(moment, point[0]), value === undefined ? "" : number(value), ...ends], "td"));
      })));
      table.append(head, body);
      wide.append(table);
      numbers.append(wide);
      if (rows > MOST) numbers.append(element("p", { class: "about" }, `${rows - MOST} more rows are not shown; the CSV files have all.`));
    };
    numbers.addEventListener("toggle", tabulate);

    const update = () => {
      const moment = moments[state.at];
      title.textContent = moment.title;
      about.textContent = moment.about + (moment.thinned ? "; thinned for this page, the CSV files have all" : "");
      labels.forEach(({ detail }, label) => {
        const key = moment.keys.find((key) => key.label === label);
        detail.textContent = key && key.detail ? key.detail : "";
      });
      draw();
      tell(-1);
      tabulate();
    };
    update();
    let last = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth !== last) {
        last = plot.clientWidth;
        draw();
        tell(-1);
      }
    }).observe(plot);
  };

  data.figures.forEach(show);
  return { element, shape, number, apart, path };
})();
