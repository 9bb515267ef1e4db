"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const columns = Object.fromEntries(data.columns.map((column) => [column.key, column]));
  const count = columns.id.values.length;
  const byId = (id) => document.getElementById(id);

  // A value of a column, as a number, and as text.
  const word = (column, row) => column.words ? column.words[column.values[row]] : column.values[row];
  const number = (key, row) => columns[key] ? columns[key].values[row] : null;
  const textOf = (key, row) => columns[key] ? String(word(columns[key], row)) : "";

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // Numbers as people write them: 16k, 400M, 12.8B.
  function short(value) {
    for (const [unit, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= unit) return `${parseFloat((value / unit).toPrecision(4))}${suffix}`;
    return `${parseFloat(value.toPrecision(4))}`;
  }
  // Fixed decimals as the tables have them: half is rounded away from zero, whatever the last bits are.
  function fixed(value, digits) {
    const scaled = parseFloat((Math.abs(value) * 10 ** digits).toPrecision(12));
    return (value < 0 ? "-" : "") + (Math.round(scaled) / 10 ** digits).toFixed(digits);
  }
  function shown(column, row) {
    const value = word(column, row);
    if (value === null || value === "") return "";
    if (column.kind === "percent") return fixed(100 * value, 1) + " %";
    if (column.kind === "count") return value.toLocaleString("en", { maximumFractionDigits: 0 });
    if (column.kind === "number") return String(parseFloat(value.toPrecision(4)));
    return value;
  }
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // Colours

  const PALETTES = {
    light: ["#000000", "#0072B2", "#C24E00", "#00805C", "#B0508C", "#2F86BD", "#946300"],
    dark: ["#ffffff", "#63BDF5", "#FF9A52", "#2FD3A2", "#F09CC9", "#A9B8FF", "#F0C24B"],
  };
  const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
  const SIGNS = ["●", "■", "▲", "◆", "▼", "✚", "✖"];
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return !printing && (chosen ? chosen === "dark" : prefersDark.matches);
  };
  const colour = (arm) => PALETTES[isDark() ? "dark" : "light"][arm % SYMBOLS.length];
  // The signs shift each time round, so that no two of 49 arms share both colour and sign.
  const sign = (arm) => (arm + Math.floor(arm / SYMBOLS.length)) % SYMBOLS.length;
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Figures

  const armOf = (row) => data.arms.indexOf(textOf("arm", row));
  const view = {
    x: data.x[0].key,
    score: data.scores.length ? data.scores[0].key : null,
    series: "",
    arms: new Set(data.arms.keys()),
  };
  const measured = [...Array(count).keys()].filter((row) => view.score && armOf(row) >= 0 &&
    data.scores.some((score) => number(score.key, row) !== null));
  const seriesNames = [...new Set(measured.map((row) => textOf("series", row)))];
  const values = (key) => [...new Set(measured.map((row) => number(key, row)).filter((value) => value > 0))];
  // Series without a curve are just dots above one another: they are shown on demand.
  const lengths = (series) => new Set(measured.filter((row) => textOf("series", row) === series).map((row) => number(data.x[0].key, row))).size;
  const curved = seriesNames.filter((series) => lengths(series) > 1);
  // Show the first of several curves: one series at a time, or all on demand, each with its own dashes.
  if (seriesNames.length > 1 && curved.length) view.series = curved[0];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const dash = (series) => DASHES[Math.max(0, curved.indexOf(series)) % DASHES.length];
  // If the schedule is the same for all, use their cost instead.
  if (values(data.x[0].key).length < 2) view.x = values("gpu_hours").length > 1 ? "gpu_hours" : "train_flops";

  function layout(more) {
    const axis = { gridcolor: token("--grid"), linecolor: token("--line"), zerolinecolor: token("--line"), automargin: true };
    return {
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: token("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      margin: { l: 60, r: 16, t: 12, b: 50 }, ...more,
      hoverlabel: { bgcolor: token("--band"), bordercolor: token("--quiet"), font: { color: token("--ink"), size: 13 }, align: "left" },
      xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
    };
  }
  const config = { displayModeBar: false, responsive: true };
  const draw = (id, traces, more) => {
    const at = byId(id);
    if (at) Plotly.react(at, traces, layout(more), config);
  };

  // Round ticks of a log axis: at the values themselves where they are few, else at 1, 2, 5 or powers of ten.
  function ticks(found, words) {
    const sorted = [...found].sort((a, b) => a - b);
    const low = sorted[0], high = sorted[sorted.length - 1];
    let at = sorted;
    if (sorted.length > 6) {
      for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
        at = [];
        for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
          for (const step of steps) {
            const value = step * 10 ** power;
            if (value >= low * 0.999 && value <= high * 1.001) at.push(value);
          }
        if (at.length >= 3) break;
      }
      at = at.filter((_, i) => i % Math.ceil(at.length / 6) === 0);
    } else {
      at = sorted.filter((value, i) => i === 0 || Math.log(value / sorted[i - 1]) > 0.08 * Math.log(high / low));
    }
    return { tickmode: "array", tickvals: at, ticktext: at.map(words) };
  }
  function flops(value) {
    const power = Math.floor(Math.log10(value) + 1e-9), lead = parseFloat((value / 10 ** power).toPrecision(2));
    return (lead === 1 ? "" : `${lead}×`) + `10<sup>${power}</sup>`;
  }

  const mean = (list) => list.reduce((sum, one) => sum + one, 0) / list.length;

  function drawScores() {
    const score = data.scores.find((one) => one.key === view.score), x = data.x.find((one) => one.key === view.x);
    const rows = measured.filter((row) => view.arms.has(armOf(row)) && number(view.score, row) !== null &&
      number(view.x, row) > 0 && (!view.series || textOf("series", row) === view.series));
    const scale = score.percent ? 100 : 1;
    const at = (row) => x.factor * number(view.x, row), height = (row) => scale * number(view.score, row);
    const traces = [];
    for (const arm of [...new Set(rows.map(armOf))].sort((a, b) => a - b)) {
      const ofArm = rows.filter((row) => armOf(row) === arm);
      for (const series of new Set(ofArm.map((row) => textOf("series", row)))) {
        const cells = new Map();
        for (const row of ofArm.filter((one) => textOf("series", one) === series)) {
          const cell = textOf("cell", row);
          cells.set(cell, [...(cells.get(cell) || []), row]);
        }
        const points = [...cells.values()].map((of) => [mean(of.map(at)), mean(of.map(height))]).sort((a, b) => a[0] - b[0]);
        if (points.length > 1)
          traces.push({
            type: "scatter", mode: "lines", x: points.map((p) => p[0]), y: points.map((p) => p[1]),
            line: { color: colour(arm), width: 1.6, dash: view.series ? "solid" : dash(series) }, hoverinfo: "skip", meta: "line",
          });
      }
      traces.push({
        type: "scatter", mode: "markers", name: data.arms[arm], x: ofArm.map(at), y: ofArm.map(height), customdata: ofArm,
        marker: { color: colour(arm), symbol: SYMBOLS[sign(arm)], size: rows.length > 2000 ? 4 : 8, opacity: 0.85 },
        text: ofArm.map((row) => `<b>${escaped(textOf("id", row))}</b><br>${escaped([data.arms[arm], textOf("cell", row)]
          .filter(Boolean).join(", "))}, seed ${number("seed", row)}<br>${score.percent ? fixed(height(row), 1) + " %"
          : height(row).toPrecision(4)} ${escaped(view.score)} at ${short(at(row))} ${escaped(x.label)}`),
        hovertemplate: "%{text}<extra></extra>",
      });
    }
    const found = new Set(rows.map(at));
    const words = view.x === "train_flops" ? flops : short;
    draw("chart-scores", traces, {
      height: 430,
      xaxis: { title: { text: escaped(x.label) }, type: "log", ...(found.size ? ticks(found, words) : {}) },
      yaxis: { title: { text: escaped(score.label) }, ticksuffix: score.percent ? " %" : "" },
    });
    const several = !view.series && curved.length > 1;
    const key = byId("chart-series");
    if (key) key.textContent = several ? "Series by their lines: " + curved.map((series) => `${dash(series)}: ${series}`).join("; ") + "." : "";
    byId("chart-scores").setAttribute("aria-label",
      `${score.label} against ${x.label}: ${rows.length} runs of ${traces.filter((one) => one.name).length} arms. ` +
      "The table of means below it and the table of runs hold the same numbers.");
  }

  const MOST_GAINS = 60;
  function drawGains() {
    if (!byId("chart-gains")) return;
    const there = data.pairs.filter((pair) => pair.mean !== null && view.arms.has(data.arms.indexOf(pair.arm)));
    // Of very many, those that differ most; the answer's table has all.
    let kept = there;
    if (there.length > MOST_GAINS)
      kept = [...there].sort((a, b) => Math.abs(b.mean) - Math.abs(a.mean)).slice(0, MOST_GAINS);
    const oneCell = new Set(data.pairs.map((pair) => pair.cell)).size < 2;
    const points = data.scores.length && data.scores[0].percent ? " points" : "";
    // Many arms of one cell are read from the best to the worst; cells keep the order of the study.
    if (oneCell && kept.length > SYMBOLS.length) kept = [...kept].sort((a, b) => b.mean - a.mean);
    const name = (pair) => oneCell ? pair.arm : `${pair.cell || "all"} · ${pair.arm}`;
    const rows = [...kept].reverse();
    const ofArms = [...new Set(rows.map((pair) => pair.arm))].map((arm) =>
      [arm, data.arms.indexOf(arm), rows.filter((pair) => pair.arm === arm)]);
    // Bars first, so that marks stand on them: thin ones are what the verdict uses.
    const bars = ofArms.flatMap(([arm, index, mine]) => [["corrected", 1.4], ["uncorrected", 4]].map(([key, width]) => {
      const drawn = mine.filter((pair) => pair[key]);
      return {
        type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: colour(index), width },
        x: drawn.flatMap((pair) => [...pair[key], null]), y: drawn.flatMap((pair) => [rows.indexOf(pair), rows.indexOf(pair), null]),
      };
    }));
    const marks = ofArms.map(([arm, index, mine]) => ({
      type: "scatter", mode: "markers", name: arm, x: mine.map((pair) => pair.mean), y: mine.map((pair) => rows.indexOf(pair)),
      marker: {
        color: mine.map((pair) => pair.significant ? colour(index) : token("--paper")), symbol: SYMBOLS[sign(index)], size: 10,
        line: { color: colour(index), width: 2 }, opacity: 1,
      },
      text: mine.map((pair) => `<b>${escaped(name(pair))}</b><br>${escaped(pair.words)}`),
      hovertemplate: "%{text}<extra></extra>",
    }));
    const traces = [...bars, ...marks];
    // Intervals of two seeds are so wide that they would flatten all others, so bars may leave the figure.
    const middle = kept.map((pair) => pair.mean), low = Math.min(0, ...middle), high = Math.max(0, ...middle);
    const room = (high - low || 1) * 0.6;
    const ends = kept.flatMap((pair) => [...(pair.uncorrected || []), ...(pair.corrected || [])]).filter((end) => end !== null);
    const range = [Math.max(low - room, Math.min(low, ...ends) - room / 10), Math.min(high + room, Math.max(high, ...ends) + room / 10)];
    const cut = ends.some((end) => end < range[0] || end > range[1]);
    byId("gains-cut").textContent = (cut ? "CIs that reach the edge go on beyond it. " : "") +
      (kept.length < there.length ? `The ${kept.length} largest of ${there.length}; the table in the answer has all.` : "");
    const narrow = byId("chart-gains").clientWidth < 560;
    const label = (pair) => escaped(name(pair)).replace(/, /g, narrow ? ",<br>" : ", ").replace(" · ", narrow ? "<br>" : " · ");
    const labels = rows.map(label);
    const lines = Math.max(1, ...labels.map((one) => one.split("<br>").length));
    draw("chart-gains", traces, {
      height: 90 + Math.max(rows.length, 1) * (10 + 16 * lines),
      margin: { l: 20, r: 16, t: 12, b: 50 },
      xaxis: { title: { text: `gain over ${escaped(data.arms[0] || "the baseline")}${points ? ", points" : ""}` }, range, zeroline: true, zerolinewidth: 2, zerolinecolor: token("--quiet") },
      yaxis: {
        tickmode: "array", tickvals: [...rows.keys()], ticktext: labels, range: [-0.7, rows.length - 0.3],
        tickfont: { size: 12 },
      },
    });
  }

  function drawCost() {
    if (!byId("chart-cost")) return;
    const { factor, label } = data.x.find((one) => one.key === "gpu_hours");
    const rows = [...Array(count).keys()].filter((row) => number("gpu_hours", row) > 0 && number("gpu_hours_predicted", row) > 0 &&
      view.arms.has(armOf(row)));
    const all = rows.flatMap((row) => [factor * number("gpu_hours", row), factor * number("gpu_hours_predicted", row)]);
    const ends = [Math.min(...all), Math.max(...all)];
    const traces = [{ type: "scatter", mode: "lines", x: ends, y: ends, line: { color: token("--quiet"), dash: "dash", width: 1 }, hoverinfo: "skip" }];
    for (const arm of [...new Set(rows.map(armOf))].sort((a, b) => a - b)) {
      const mine = rows.filter((row) => armOf(row) === arm);
      traces.push({
        type: "scatter", mode: "markers", name: data.arms[arm], customdata: mine,
        x: mine.map((row) => factor * number("gpu_hours_predicted", row)), y: mine.map((row) => factor * number("gpu_hours", row)),
        marker: { color: colour(arm), symbol: SYMBOLS[sign(arm)], size: rows.length > 2000 ? 4 : 7, opacity: 0.85 },
        text: mine.map((row) => `<b>${escaped(textOf("id", row))}</b><br>${escaped(data.arms[arm])}<br>` +
          `${(number("gpu_hours", row) / number("gpu_hours_predicted", row)).toFixed(2)} times the predicted`),
        hovertemplate: "%{text}<extra></extra>",
      });
    }
    const unit = label.replace(/.*\((.*)\)/, "$1");
    const found = all.length ? ticks(new Set(all), short) : {};
    draw("chart-cost", traces, {
      height: 400,
      xaxis: { title: { text: `predicted, ${unit}` }, type: "log", ...found },
      yaxis: { title: { text: `measured, ${unit}` }, type: "log", ...found },
    });
  }

  function drawCurves() {
    if (!byId("chart-curves")) return;
    const curves = data.curves[view.metric].filter((curve) => armOf(curve.row) < 0 || view.arms.has(armOf(curve.row)));
    const traces = curves.map(({ row, x, y }) => ({
      type: "scatter", mode: x.length > 1 ? "lines" : "markers", x, y, line: { color: colour(Math.max(0, armOf(row))), width: 1.4 },
      name: escaped([textOf("arm", row), textOf("cell", row), `seed ${number("seed", row)}`, textOf("state", row)].filter(Boolean).join(", ")),
      hovertemplate: "<b>%{fullData.name}</b><br>%{y:.4g} at step %{x}<extra></extra>",
    }));
    draw("chart-curves", traces, { height: 380, xaxis: { title: { text: "step" } }, yaxis: { title: { text: escaped(view.metric) } } });
  }
  function curveControls() {
    const metrics = Object.keys(data.curves);
    view.metric = metrics[0];
    if (metrics.length < 2) return;
    byId("curve-controls").append(field("Metric", select(metrics.map((one) => [one, one]), view.metric, (key) => { view.metric = key; drawCurves(); })));
    byId("curve-controls").hidden = false;
  }

  function drawAll() {
    if (view.score && byId("chart-scores")) drawScores();
    drawGains();
    drawCost();
    drawCurves();
    document.querySelectorAll("[data-arm]").forEach((mark) => { mark.style.color = colour(Number(mark.dataset.arm)); });
  }

  function field(label, control, wide) {
    return element("label", { class: wide ? "field wide" : "field" }, label, control);
  }
  function select(options, value, change) {
    const made = element("select", { onchange: () => change(made.value) },
      ...options.map(([key, text]) => element("option", { value: key, selected: key === value }, text)));
    return made;
  }

  function chartControls() {
    const place = byId("chart-controls");
    if (!place || !view.score) return;
    const axes = element("fieldset", {}, element("legend", {}, "Along"), ...data.x.map((x) => element("label", {},
      element("input", { type: "radio", name: "x", value: x.key, checked: x.key === view.x, disabled: !values(x.key).length,
        onchange: () => { view.x = x.key; drawScores(); } }), x.label)));
    const boxes = data.arms.map((arm, index) => element("input", { type: "checkbox", value: arm, checked: true,
      onchange: (event) => { event.target.checked ? view.arms.add(index) : view.arms.delete(index); drawAll(); } }));
    const arms = element("fieldset", { class: data.arms.length > 10 ? "many" : null }, element("legend", {}, "Arms"),
      ...data.arms.map((arm, index) => element("label", {}, boxes[index],
        element("span", { class: "sign", "data-arm": index, "aria-hidden": "true" }, SIGNS[sign(index)]), arm)));
    const all = (on) => { boxes.forEach((box, index) => { box.checked = on; on ? view.arms.add(index) : view.arms.delete(index); }); drawAll(); };
    place.append(axes);
    if (data.scores.length > 1) place.append(field("Score", select(data.scores.map((one) => [one.key, one.label]), view.score,
      (key) => { view.score = key; drawScores(); })));
    if (seriesNames.length > 1) place.append(field("Series", select([["", "all"], ...seriesNames.map((one) => [one, one || "(no other axis)"])], view.series,
      (key) => { view.series = key; drawScores(); })));
    place.append(arms);
    if (data.arms.length > 2) place.append(element("span", {}, element("button", { type: "button", onclick: () => all(true) }, "All arms"), " ",
      element("button", { type: "button", onclick: () => all(false) }, "No arm")));
    place.hidden = false;
  }

  // The table of runs

  const PAGE = 50, PRINTED = 1000;
  const listed = data.columns.filter((column) => column.kind !== "hidden");
  const table = { sort: null, descending: false, text: "", state: "", arm: "", page: 0, rows: [...Array(count).keys()] };

  function condition(part) {
    const match = /^([\w.]+?)(<=|>=|=|<|>)(.+)$/.exec(part);
    const column = match && (columns[match[1]] || columns["set." + match[1]]);
    if (!column) return (row, whole) => whole(row).includes(part.toLowerCase());
    const wanted = Number(match[3]);
    return (row) => {
      const value = word(column, row);
      if (match[2] === "=") return value !== null && (String(value).toLowerCase() === match[3].toLowerCase() || (!column.words && value === wanted));
      if (typeof value !== "number") return false;
      return { "<": value < wanted, ">": value > wanted, "<=": value <= wanted, ">=": value >= wanted }[match[2]];
    };
  }
  const searched = [];
  function whole(row) {
    if (searched[row] === undefined) searched[row] = listed.map((column) => shown(column, row)).join(" ").toLowerCase();
    return searched[row];
  }
  function filter() {
    const parts = table.text.trim().split(/\s+/).filter(Boolean).map(condition);
    table.rows = [...Array(count).keys()].filter((row) => (!table.state || textOf("state", row) === table.state) &&
      (!table.arm || textOf("arm", row) === table.arm) && parts.every((part) => part(row, whole)));
    if (table.sort) {
      const column = columns[table.sort], way = table.descending ? -1 : 1;
      // Missing values stay last either way; a column of words sorts in the order of its words.
      table.rows.sort((a, b) => {
        const [one, other] = [column.values[a], column.values[b]];
        const gone = (value) => value === null || value === "";
        if (gone(one) || gone(other)) return gone(one) - gone(other) || a - b;
        return (one < other ? -1 : one > other ? 1 : 0) * way || a - b;
      });
    }
    table.page = 0;
    fill();
  }
  function rowOf(row) {
    return element("tr", {}, ...listed.map((column, index) => {
      const text = shown(column, row);
      const kind = { percent: "number", count: "number", number: "number", why: "why" }[column.kind] || "";
      const minor = column.minor ? "minor " : "";
      const classes = minor + (column.key === "state" ? `state-${text}` : kind || (String(text).length < 30 ? "short" : ""));
      const log = column.key === "kind" && columns.log ? columns.log.values[row] : null;
      const inner = log === null || log === undefined ? text : element("a", { href: `#failure-${log}` }, text);
      return index === 0 ? element("th", { scope: "row" }, element("code", {}, text)) : element("td", { class: classes.trim() || null }, inner);
    }));
  }
  function fill(first = table.page * PAGE, most = PAGE) {
    const body = byId("runs-table").tBodies[0];
    body.replaceChildren(...table.rows.slice(first, first + most).map(rowOf));
    const last = Math.min(first + most, table.rows.length);
    byId("run-count").textContent = !table.rows.length ? "No run matches." :
      `${table.rows.length === count ? `${count} runs` : `${table.rows.length} of ${count} runs`}` +
      (table.rows.length > most ? `, ${first + 1} to ${last} shown` : "");
    for (const head of byId("runs-table").tHead.rows[0].cells)
      head.setAttribute("aria-sort", head.dataset.key !== table.sort ? "none" : table.descending ? "descending" : "ascending");
    const pages = Math.ceil(table.rows.length / PAGE);
    byId("run-pages").hidden = pages < 2;
    byId("earlier").disabled = table.page === 0;
    byId("later").disabled = table.page >= pages - 1;
  }
  function tableControls() {
    const states = columns.state.words, arms = columns.arm.words;
    const search = element("input", { type: "search", id: "run-filter", autocomplete: "off", spellcheck: "false",
      oninput: () => { table.text = search.value; filter(); } });
    byId("run-controls").append(field("Filter", search, true));
    if (states.length > 1) byId("run-controls").append(field("State", select([["", "all"], ...states.map((one) => [one, one])], "", (value) => { table.state = value; filter(); })));
    if (arms.length > 1) byId("run-controls").append(field("Arm", select([["", "all"], ...arms.map((one) => [one, one])], "", (value) => { table.arm = value; filter(); })));
    byId("run-controls").hidden = false;
    const turn = (by) => { table.page += by; fill(); };
    byId("run-pages").append(element("button", { type: "button", id: "earlier", onclick: () => turn(-1) }, "Earlier rows"),
      element("button", { type: "button", id: "later", onclick: () => turn(1) }, "Later rows"));
    byId("runs-table").tHead.append(element("tr", {}, ...listed.map((column) => element("th", { scope: "col", "data-key": column.key, "data-label": column.label, "aria-sort": "none",
      class: [["percent", "count", "number"].includes(column.kind) ? "number" : "", column.minor ? "minor" : ""].join(" ").trim() || null },
      element("button", { type: "button", onclick: () => {
        table.descending = table.sort === column.key && !table.descending;
        table.sort = column.key;
        filter();
      } }, column.label)))));
  }
  function find(row) {
    byId("run-filter").value = table.text = textOf("id", row);
    filter();
    byId("runs").scrollIntoView();
    byId("run-filter").focus({ preventScroll: true });
  }

  // Begin

  function theme() {
    const button = byId("theme");
    button.hidden = false;
    const name = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
    button.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; name(); drawAll(); });
    prefersDark.addEventListener("change", () => { name(); drawAll(); });
    name();
  }
  function openTarget() {
    const at = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    const folded = at && at.closest("details");
    if (folded) { folded.open = true; at.scrollIntoView(); }
  }
  // Paper cannot unfold, scroll or turn pages, and a figure is as wide as the sheet.
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    printing = true;
    unfolded = [...document.querySelectorAll("details:not([open])")].filter((one) => !one.querySelector(".drawn"));
    unfolded.forEach((one) => { one.open = true; });
    fill(0, PRINTED);
    drawAll();
    document.querySelectorAll(".chart .main-svg").length && document.querySelectorAll(".js-plotly-plot").forEach((chart) =>
      Plotly.relayout(chart, { width: 660 }));
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    unfolded.forEach((one) => { one.open = false; });
    fill();
    drawAll();
    document.querySelectorAll(".js-plotly-plot").forEach((chart) => Plotly.relayout(chart, { width: null, autosize: true }));
  });
  // A table that is wider than its place says so; this can change when it is unfolded, filled or rotated.
  const widths = new ResizeObserver((found) => found.forEach(({ target }) => {
    const place = target.closest(".scroll");
    place.classList.toggle("wide", place.scrollWidth > place.clientWidth + 1);
  }));
  document.querySelectorAll(".scroll").forEach((place) => { widths.observe(place); widths.observe(place.querySelector("table")); });
  window.addEventListener("hashchange", openTarget);
  window.addEventListener("resize", drawGains);
  theme();
  chartControls();
  tableControls();
  curveControls();
  filter();
  drawAll();
  for (const id of ["chart-scores", "chart-cost"]) {
    const chart = byId(id);
    if (chart && chart.on) chart.on("plotly_click", (event) => {
      const row = event.points[0].customdata;
      if (row !== undefined) find(row);
    });
  }
  openTarget();
})();
