"use strict";
(() => {
  const SEVERITIES = ["HEALTHY", "WARNING", "SERIOUS", "CRITICAL"];
  const SIGNS = ["", "● ", "▲ ", "✖ "];
  const SYMBOLS = ["", "circle", "triangle-up", "x"];
  const TICKS = 8;
  const MANY = 24;
  const $ = (id) => document.getElementById(id);
  let data;

  async function unpacked(id) {
    const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }
  const text = (buffer) => new TextDecoder().decode(buffer);

  /** Numbers whose upper, middle and lower bytes stand apart; the rows of a table of them. */
  function tables(buffer) {
    const bytes = new Uint8Array(buffer);
    const size = bytes.length / 3;
    const whole = new Uint32Array(size);
    for (let i = 0; i < size; i++) whole[i] = (bytes[i] << 24) | (bytes[size + i] << 16) | (bytes[2 * size + i] << 8);
    const numbers = new Float32Array(whole.buffer);
    return ([start, rows, columns]) =>
      [...Array(rows).keys()].map((row) => [...numbers.subarray(start + row * columns, start + (row + 1) * columns)]);
  }

  // Text

  // plotly reads a little markup in labels: names must not be taken for it
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const narrow = () => window.innerWidth < 640;
  const label = (place) => escaped(data.layers[place].short[narrow() ? 1 : 0]);
  function shown(value, share) {
    if (value === null || value === undefined) return "no number";
    if (!Number.isFinite(value)) return String(value);
    return share ? `${+(100 * value).toPrecision(3)} %` : String(+value.toPrecision(3));
  }
  // strict JSON has no NaN and no infinity: they come as strings
  const number = (value) => (typeof value === "string" ? Number(value) : value);
  function put(parent, tag, text) {
    const child = parent.appendChild(document.createElement(tag));
    child.textContent = text;
    return child;
  }
  function fill(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  }

  // Looks

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  function layout(height, more) {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, ticklabeloverflow: "allow" };
    return {
      height, dragmode: false, margin: { l: 10, r: 10, t: 34, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("text") }, align: "left" },
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 }, ...more,
      xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
    };
  }
  /** What an empty chart says. */
  function nothing(text) {
    return { text, xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, font: { color: colour("dim"), size: 14 } };
  }
  function draw(id, traces, look) {
    return Plotly.react($(id), traces, look, { responsive: true, displayModeBar: false });
  }
  function logAxis(name, values) {
    const spans = Math.max(...values) > 30 * Math.min(...values);
    return { type: "log", title: { text: name, standoff: 8 }, fixedrange: true, exponentformat: "power", ...(spans ? { dtick: 1 } : { dtick: "D2", tickformat: "~g" }) };
  }
  // labels of rows are measured here: plotly draws all of them several times to find out
  const pen = document.createElement("canvas").getContext("2d");
  function beside(names) {
    pen.font = `${rowFont(names)}px system-ui, sans-serif`;
    return 12 + names.reduce((most, name) => Math.max(most, pen.measureText(name).width), 0);
  }
  const rowFont = (names) => (rowHeight(names.length) < 20 ? 9 : 12);
  const rowHeight = (rows) => (rows <= 30 ? 20 : rows <= 60 ? 13 : 11);
  function some(length, most) {
    const every = Math.max(1, Math.ceil(length / most));
    return [...Array(length).keys()].filter((i) => i % every === 0);
  }
  function stepAxis(windows) {
    const ticks = some(windows.length, narrow() ? 4 : TICKS);
    return {
      tickvals: ticks, ticktext: ticks.map((i) => String(data.windows[windows[i]][1])), title: { text: "step", standoff: 4 },
      showgrid: false, range: [-0.5, windows.length - 0.5], fixedrange: true, zeroline: false,
    };
  }
  /** The steps stand above what is too tall to be seen whole, and below everything else. */
  function frame(rows, left, top) {
    const above = 80 + rowHeight(rows) * rows > 0.7 * window.innerHeight;
    return { side: above ? "top" : "bottom", margin: { l: left, r: 10, t: top + (above ? 32 : 0), b: above ? 8 : 40 } };
  }
  function rowAxis(names) {
    return {
      tickvals: [...names.keys()], ticktext: names, range: [names.length - 0.5, -0.5], showgrid: false,
      fixedrange: true, zeroline: false, tickfont: { size: rowFont(names) }, automargin: false,
    };
  }

  /** Colours of a heatmap: shares from 0 to 1, what spans orders of magnitude by its logarithm. */
  function heat(rows, share, hover) {
    const finite = rows.flat().filter((v) => Number.isFinite(v));
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const positive = finite.filter((v) => v > 0).reduce((a, b) => Math.min(a, b), Infinity);
    const log = !share && low >= 0 && high > 100 * positive;
    const floor = Math.max(positive, high * 1e-12);
    const value = (v) => (!Number.isFinite(v) ? null : log ? Math.log10(Math.max(v, floor)) : v);
    const gap = rows.length * rows[0].length > 1000 ? 0 : 0.5;
    const length = Math.min(260, rowHeight(rows.length) * Math.max(rows.length, 4));
    const bar = { thickness: 10, lenmode: "pixels", len: length, y: 1, yanchor: "top", outlinewidth: 0, tickformat: share ? ".0%" : undefined, ticklabelposition: "outside" };
    if (log) {
      const [from, to] = [Math.floor(Math.log10(floor)), Math.ceil(Math.log10(high))];
      bar.tickvals = some(to - from + 1, 6).map((i) => from + i);
      bar.ticktext = bar.tickvals.map((i) => `1e${i}`);
    }
    return {
      type: "heatmap", z: rows.map((row) => row.map(value)), text: hover, hovertemplate: "%{text}<extra></extra>",
      hoverongaps: true, colorscale: "Viridis", colorbar: bar, xgap: gap, ygap: gap,
      ...(share ? { zmin: 0, zmax: 1 } : log ? {} : { zmin: low, zmax: high > low ? high : low + 1 }),
    };
  }

  // Layers × windows

  function chosen() {
    const wanted = $("search").value.trim().toLowerCase();
    const sick = new Set(data.marks.map((mark) => mark[0]));
    return data.measures[$("measure").value].layers.map((place, column) => ({ place, column })).filter(
      ({ place }) => data.layers[place].name.toLowerCase().includes(wanted) && (!$("sick").checked || sick.has(place)),
    );
  }
  function drawLayers() {
    const name = $("measure").value;
    const measure = data.measures[name];
    const rows = chosen();
    const windows = [...data.windows.keys()];
    const values = rows.map(({ column }) => measure.means.map((means) => means[column]));
    const where = windows.map((w) => `epoch ${data.windows[w][0]}, step ${data.windows[w][1]}`);
    const hover = rows.map(({ place }, r) =>
      windows.map((w) => `${escaped(data.layers[place].name)}<br>${where[w]}<br>${name}: ${shown(values[r][w], measure.share)}`),
    );
    const traces = rows.length ? [heat(values, measure.share, hover)] : [];
    const row = new Map(rows.map(({ place }, r) => [place, r]));
    for (const severity of [1, 2, 3]) {
      const marks = data.marks.filter((mark) => mark[1] === severity && row.has(mark[0]));
      if (!marks.length) continue;
      const [x, y] = [marks.flatMap((m) => [m[2], m[3], null]), marks.flatMap((m) => [row.get(m[0]), row.get(m[0]), null])];
      for (const [ink, width] of [["#000000", 3], ["#ffffff", 1.2]]) {
        traces.push({ type: "scatter", mode: "lines", x, y, line: { color: ink, width }, hoverinfo: "skip", showlegend: false });
      }
      traces.push({
        type: "scatter", mode: "markers", x: marks.map((m) => m[2]), y: marks.map((m) => row.get(m[0])), hoverinfo: "skip",
        marker: { symbol: SYMBOLS[severity], size: 9, color: "#ffffff", line: { color: "#000000", width: 1 } }, showlegend: false,
      });
    }
    const names = rows.map(({ place }) => label(place));
    $("about").textContent = measure.about;
    $("count").textContent = `${rows.length} of ${data.layers.length} layers`;
    $("heatmap").setAttribute("aria-label", `${name} of ${rows.length} layers in ${windows.length} windows`);
    $("heatmap").hidden = !rows.length;
    if (!rows.length) return;
    const { side, margin } = frame(rows.length, beside(names), 8);
    draw("heatmap", traces, layout(80 + rowHeight(rows.length) * Math.max(rows.length, 3), {
      xaxis: { ...stepAxis(windows), side }, yaxis: rowAxis(names), plot_bgcolor: colour("missing"), margin,
    }));
  }

  // One layer

  function show(place, move) {
    $("which").value = String(place);
    drawLayer();
    if (move) {
      $("layer").scrollIntoView();
      $("which").focus({ preventScroll: true });
    }
  }
  function drawLayer() {
    const place = Number($("which").value);
    const layer = data.layers[place];
    const known = Object.keys(data.neurons[place].measures);
    const before = $("of-neurons").value;
    fill($("of-neurons"), known.map((name) => [name, name]));
    if (known.includes(before)) $("of-neurons").value = before;
    $("facts").replaceChildren();
    const whole = layer.short[0] === layer.name ? "" : `${layer.name}: `;
    put($("facts"), "p", `${whole}${layer.neurons} neurons, ${layer.function === "identity" ? "no activation function" : layer.function}`);
    for (const [severity, condition, message] of layer.findings) {
      put($("facts"), "p", `${SIGNS[severity]}${SEVERITIES[severity]} ${condition.replaceAll("_", " ")}: ${message}`);
    }
    $("rows").replaceChildren();
    for (const [name, measure] of Object.entries(data.measures)) {
      const column = measure.layers.indexOf(place);
      if (column < 0) continue;
      const row = $("rows").appendChild(document.createElement("tr"));
      put(row, "td", name);
      for (const means of [measure.means[0], measure.means.at(-1)]) put(row, "td", shown(means[column], measure.share));
    }
    drawNeurons();
    drawShape(place);
  }
  function drawShape(place) {
    const found = data.shapes[place] || [];
    $("shape").hidden = !found.length;
    if (!found.length) return;
    const traces = found.map(([step, values], i) => ({
      type: "scatter", mode: "lines", name: `step ${step}`, y: values,
      x: [...values.keys()].map((n) => data.reach * ((2 * n) / (values.length - 1) - 1)),
      line: { color: colour(i === found.length - 1 ? "last" : "first"), dash: i === found.length - 1 ? "solid" : "dot" },
      hovertemplate: `step ${step}<br>f(%{x:.2f}) = %{y:.3g}<extra></extra>`,
    }));
    $("shape").setAttribute("aria-label", `The activation that ${data.layers[place].name} has learned`);
    draw("shape", traces, layout(280, {
      xaxis: { title: { text: "z", standoff: 4 }, fixedrange: true },
      yaxis: { title: { text: "learned activation f(z)", standoff: 8 }, fixedrange: true }, showlegend: true,
    }));
  }
  function drawNeurons() {
    const place = Number($("which").value);
    const { shown: indices, turns, measures } = data.neurons[place];
    const name = $("of-neurons").value;
    $("neurons").hidden = !measures[name];
    $("silence").textContent = measures[name] ? "" : "Single neurons were not measured, or their numbers were not kept.";
    if (!measures[name]) return;
    const { windows, values } = measures[name];
    const neurons = indices || [...values.keys()];
    const share = data.measures[name].share;
    const hover = values.map((row, r) => row.map((value, w) =>
      `neuron ${neurons[r]}<br>step ${data.windows[windows[w]][1]}<br>${name}: ${shown(value, share)}`));
    const traces = [heat(values, share, hover)];
    const [died, revived] = [[], []];
    (measures.on_rate?.values || []).forEach((row, r) => {
      row.forEach((rate, w) => {
        const x = windows.indexOf(measures.on_rate.windows[w]);
        if (w && x >= 0 && rate === 0 && row[w - 1] > 0) died.push([x, r]);
        if (w && x >= 0 && rate > 0 && row[w - 1] === 0) revived.push([x, r]);
      });
    });
    for (const [text, points, symbol] of [["died", died, "triangle-down"], ["revived", revived, "triangle-up"]]) {
      if (!points.length) continue;
      traces.push({
        type: "scatter", mode: "markers", name: text, x: points.map((p) => p[0]), y: points.map((p) => p[1]), hoverinfo: "skip",
        marker: { symbol, size: 9, color: colour(text), line: { color: "#000000", width: 1 } },
      });
    }
    const which = indices ? `Shown: ${indices.length} of ${data.layers[place].neurons} neurons, silent ones before others. ` : "";
    const times = (n) => (n === 1 ? "once" : `${n} times`);
    const told = !turns ? "" : turns.every((n) => n === 0) ? "Every neuron fired in every window."
      : `${turns[0]} never fired in the last window; ${turns[1] + turns[2] === 0 ? "no neuron fell silent or fired again."
        : `${times(turns[1])} a neuron fell silent (▼), ${times(turns[2])} one fired again (▲).`}`;
    $("silence").textContent = which + told;
    $("neurons").setAttribute("aria-label", `${name} of the neurons of ${data.layers[place].name}. ${$("silence").textContent}`);
    const names = neurons.map(String);
    const { side, margin } = frame(neurons.length, 24 + beside(names), traces.length > 1 ? 34 : 8);
    draw("neurons", traces, layout(90 + rowHeight(neurons.length) * Math.max(neurons.length, 4), {
      xaxis: { ...stepAxis(windows), side }, yaxis: { ...rowAxis(names), title: { text: "neuron", standoff: 8 } },
      plot_bgcolor: colour("missing"), showlegend: traces.length > 1, margin,
    }));
  }

  // Along the depth, and over time

  function drawDepth(id, names) {
    const name = names.find((candidate) => data.measures[candidate]);
    $(id).hidden = !name;
    if (!name) return;
    const { layers, means, share } = data.measures[name];
    const drawn = [means[0], means.at(-1)].flat().filter((v) => Number.isFinite(v) && v > 0);
    const floor = drawn.reduce((a, b) => Math.min(a, b), 1) / 3; // where zeros lie
    const line = (title, row, ink, dash) => ({
      type: "scatter", mode: "lines+markers", name: title, x: [...layers.keys()],
      y: row.map((v) => (Number.isFinite(v) && v >= 0 ? Math.max(v, floor) : null)), line: { color: ink, dash },
      marker: {
        symbol: layers.map((place) => SYMBOLS[data.layers[place].severity] || "circle-open"), color: ink,
        size: layers.map((place) => (data.layers[place].severity || layers.length <= MANY ? 9 : 4)),
      },
      text: layers.map((place, i) => `${escaped(data.layers[place].name)}<br>${title}: ${shown(row[i], share)}`),
      hovertemplate: "%{text}<extra></extra>",
    });
    const traces = [line("last window", means.at(-1), colour("last"), "solid")];
    if (means.length > 1) traces.unshift(line("first window", means[0], colour("first"), "dot"));
    const named = layers.length <= (narrow() ? 8 : MANY);
    const ticks = some(layers.length, named ? layers.length : TICKS);
    const axis = {
      tickvals: ticks, ticktext: ticks.map((i) => (named ? label(layers[i]) : String(i + 1))), fixedrange: true,
      tickangle: named && layers.length > 6 ? -45 : 0, title: { text: named ? "" : "layer, in the order of execution", standoff: 4 },
    };
    $(id).setAttribute("aria-label", `${name} of ${layers.length} layers in the order of execution`);
    const at = { xref: "paper", yref: "y" };
    const zeros = [means[0], means.at(-1)].flat().includes(0);
    const dashes = { ...at, type: "line", x0: 0, x1: 1, y0: floor, y1: floor, line: { color: colour("dim"), width: 1, dash: "dash" } };
    const zero = { ...at, x: 0, y: Math.log10(floor), xanchor: "left", yanchor: "bottom", text: "0", showarrow: false };
    draw(id, traces, layout(320, {
      xaxis: axis, yaxis: logAxis(name, [...drawn, floor]), showlegend: true, shapes: zeros ? [dashes] : [],
      annotations: [...(zeros ? [zero] : []), ...(drawn.length ? [] : [nothing("no finite number above 0")])],
    }));
  }
  function drawLoss() {
    const curves = Object.entries(data.loss);
    $("training").hidden = !curves.length;
    if (!curves.length) return;
    const all = curves.flatMap(([, points]) => points.map((point) => point[1])).filter((v) => Number.isFinite(v));
    const [low, high] = [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
    const log = low > 0 && high > 50 * low;
    const traces = curves.map(([name, points]) => ({
      type: "scatter", mode: name === "training" ? "lines" : "lines+markers", name, x: points.map((p) => p[0]),
      y: points.map((p) => (Number.isFinite(p[1]) ? p[1] : null)), line: { color: colour(name === "training" ? "last" : "died"), width: 1.5 },
      hovertemplate: `${name} %{y:.4g}<br>step %{x:.0f}<extra></extra>`,
    }));
    for (const [name, points] of curves.filter(([name, points]) => name === "validation" && points.length > 2)) {
      const low = points.reduce((a, b) => (b[1] < a[1] || !Number.isFinite(a[1]) ? b : a));
      traces.push({
        type: "scatter", mode: "markers", name: "lowest validation", x: [low[0]], y: [low[1]],
        hovertemplate: `lowest ${name} %{y:.4g}<br>step %{x:.0f}<extra></extra>`,
        marker: { symbol: "diamond", size: 11, color: colour("revived"), line: { color: colour("text"), width: 1 } },
      });
    }
    const bands = data.run.map(([severity, , from, to]) => ({
      type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, layer: "below", opacity: 0.18,
      fillcolor: colour(SEVERITIES[severity].toLowerCase()), line: { width: 0 },
    }));
    const conditions = [...new Set(data.run.map((stretch) => stretch[1]))];
    const firsts = conditions.map((condition) => data.run.find((stretch) => stretch[1] === condition));
    const notes = firsts.map(([severity, condition, from], i) => ({
      x: from, xref: "x", y: 1 - 0.09 * (i % 8), yref: "paper", xanchor: "left", yanchor: "top", showarrow: false,
      text: escaped(`${SIGNS[severity]}${condition.replaceAll("_", " ")}`), font: { color: colour(SEVERITIES[severity].toLowerCase()) },
    }));
    $("loss").setAttribute("aria-label", `The loss over steps; marked: ${conditions.join(", ") || "nothing"}`);
    draw("loss", traces, layout(340, {
      xaxis: { title: { text: "step", standoff: 4 }, fixedrange: true },
      yaxis: log ? logAxis("loss", [low, high]) : { title: { text: "loss", standoff: 8 }, fixedrange: true },
      shapes: bands, annotations: all.length ? notes : [...notes, nothing("no finite loss")], showlegend: curves.length > 1,
    }));
  }

  function drawAll() {
    drawLayers();
    drawLayer();
    drawDepth("scale", ["activation_scale", "activation_std"]);
    drawDepth("gradient", ["gradient_rms", "gradient_norm", "gradient_flow"]);
    drawLoss();
  }

  function begin(table) {
    for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
    for (const measure of Object.values(data.measures)) measure.means = table(measure.means);
    for (const layer of Object.values(data.neurons)) {
      for (const entry of Object.values(layer.measures)) entry.values = table(entry.values);
    }
    for (const shapes of Object.values(data.shapes)) shapes.forEach((shape) => ([shape[1]] = table(shape[1])));
    for (const points of Object.values(data.loss)) points.forEach((point) => (point[1] = number(point[1])));
    if (!data.layers.length) {
      for (const id of ["layers", "layer", "depth"]) $(id).hidden = true;
      drawLoss();
      return;
    }
    fill($("measure"), Object.keys(data.measures).map((name) => [name, name]));
    fill($("which"), data.layers.map((layer, place) => [place, SIGNS[layer.severity] + layer.short[0]]));
    const worst = data.layers.reduce((best, layer, place) => (layer.severity > data.layers[best].severity ? place : best), 0);
    $("which").value = String(worst);
    drawAll();
    $("measure").addEventListener("change", drawLayers);
    $("search").addEventListener("input", drawLayers);
    $("sick").addEventListener("change", drawLayers);
    $("search-layers").addEventListener("submit", () => chosen().length && show(chosen()[0].place, true));
    $("which").addEventListener("change", drawLayer);
    $("of-neurons").addEventListener("change", drawNeurons);
    $("heatmap").on("plotly_click", ({ points }) => show(chosen()[points[0].y].place, true));
    for (const go of document.querySelectorAll("button.go")) {
      go.addEventListener("click", () => show(Number(go.dataset.layer), true));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    matchMedia("(max-width: 639px)").addEventListener("change", drawAll);
  }

  Promise.all(["data", "planes", "library"].map(unpacked)).then(([json, planes, library]) => {
    data = JSON.parse(text(json));
    const script = document.createElement("script");
    script.textContent = text(library);
    document.head.append(script);
    begin(tables(planes));
    for (const link of document.querySelectorAll("nav a")) link.hidden = $(link.hash.slice(1)).hidden;
    document.body.dataset.ready = "yes";
  }).catch((error) => {
    $("trouble").hidden = false;
    $("trouble").textContent = `The charts could not be drawn: ${error}. A browser of 2023 or later is needed.`;
    console.error(error);
  });
})();
