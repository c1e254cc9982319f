(() => {
  'use strict';
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const banner = one('#error');
  addEventListener('error', (event) => {
    banner.hidden = false;
    banner.textContent = 'A part of this page did not work: ' + event.message;
  });
  const data = JSON.parse(one('#data').textContent);
  const NS = 'http://www.w3.org/2000/svg';
  const make = (tag, name, ...inside) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...inside);
    return element;
  };
  const draw = (tag, attributes) => {
    const element = document.createElementNS(NS, tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    return element;
  };
  const digits = (value) => {
    if (Number.isInteger(value)) return value.toLocaleString('en');
    const size = Math.abs(value);
    return size >= 1000 || size < 1e-4 ? value.toPrecision(4) : String(Number(value.toPrecision(4)));
  };

  // The theme: what the system says, until somebody chooses.
  const button = one('#theme');
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const themes = { auto: 'Theme: auto', light: 'Theme: light', dark: 'Theme: dark' };
  let theme = 'auto';
  try { theme = localStorage.getItem('nearfar-theme') || 'auto'; } catch { /* Storage may be forbidden. */ }
  const setTheme = (name) => {
    theme = name in themes ? name : 'auto';
    if (theme === 'auto') delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = themes[theme];
    try { localStorage.setItem('nearfar-theme', theme); } catch { /* As above. */ }
  };
  setTheme(theme);
  button.hidden = false;
  button.addEventListener('click', () => {
    // The first click always changes what is seen.
    const order = dark.matches ? ['auto', 'light', 'dark'] : ['auto', 'dark', 'light'];
    setTheme(order[(order.indexOf(theme) + 1) % 3]);
  });

  // The box beside the pointer.
  const tip = one('#tip');
  const place = (event, inside) => {
    tip.replaceChildren(...inside);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const room = 14;
    let left = event.clientX + room;
    if (left + box.width > innerWidth - 6) left = Math.max(6, event.clientX - box.width - room);
    let top = event.clientY + room;
    if (top + box.height > innerHeight - 6) top = Math.max(6, event.clientY - box.height - room);
    tip.style.left = left + 'px';
    tip.style.top = top + 'px';
  };
  const hide = () => { tip.hidden = true; };
  addEventListener('scroll', hide, { passive: true });
  const inSvg = (svg, event) => {
    const box = svg.getBoundingClientRect();
    const view = svg.viewBox.baseVal;
    return [(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height, box.width / view.width];
  };
  const swatch = (color) => {
    const svg = draw('svg', { viewBox: '0 0 12 12' });
    svg.append(draw('circle', { cx: 6, cy: 6, r: 5, class: 'f' + color }));
    return svg;
  };

  // Curves: the values of all at the pointer.
  for (const chart of data.charts) {
    const svg = document.getElementById(chart.id);
    const [left, top, width, height] = chart.plot;
    const scale = ([low, high, log]) => log
      ? (value) => Math.log(value / low) / Math.log(high / low)
      : (value) => (value - low) / (high - low);
    const toX = scale(chart.x), toY = scale(chart.y);
    const layer = draw('g', { 'pointer-events': 'none' });
    svg.append(layer);
    const leave = () => { layer.replaceChildren(); hide(); };
    svg.addEventListener('pointerleave', leave);
    svg.addEventListener('pointermove', (event) => {
      const at = (inSvg(svg, event)[0] - left) / width;
      if (at < -0.03 || at > 1.03) return leave();
      const found = [];
      for (const series of chart.series) {
        let best = -1, gap = Infinity;
        series.x.forEach((x, index) => {
          const away = Math.abs(toX(x) - at);
          if (away < gap && series.y[index] !== null) { gap = away; best = index; }
        });
        if (best >= 0) found.push([series, series.x[best], series.y[best], gap]);
      }
      if (!found.length) return leave();
      const nearest = found.reduce((a, b) => (b[3] < a[3] ? b : a));
      const line = left + toX(nearest[1]) * width;
      layer.replaceChildren(draw('line', { x1: line, x2: line, y1: top, y2: top + height, class: 'cross' }));
      const rows = [make('div', 'head', chart.name + ' ' + digits(nearest[1]))];
      for (const [series, x, y] of found) {
        layer.append(draw('circle', { cx: left + toX(x) * width, cy: top + (1 - toY(y)) * height, r: 4.5, class: 'spot f' + series.color }));
        rows.push(make('div', 'row', swatch(series.color), make('span', '', series.name), make('b', '', digits(y))));
      }
      place(event, rows);
    });
  }

  // Points: the sample under the pointer, and where it is in the other pictures.
  const nameOf = (label) => (label === null || label === undefined ? '' : data.classes[label] ?? String(label));
  const thumbnail = (cell) => {
    const picture = make('i', 'th');
    picture.style.setProperty('--x', cell % data.columns);
    picture.style.setProperty('--y', Math.floor(cell / data.columns));
    return picture;
  };
  const plots = data.scatters.map((scatter) => {
    const svg = document.getElementById(scatter.id);
    const points = all('.pt', svg).map((element, index) => ({
      element, index, x: scatter.x[index], y: scatter.y[index], label: scatter.labels[index], item: scatter.items[index],
    }));
    const ring = draw('circle', { r: 9, class: 'ring', visibility: 'hidden' });
    svg.append(ring);
    return { svg, points, ring };
  });
  const hidden = new Set();
  const show = (ring, point) => {
    if (!point) return ring.setAttribute('visibility', 'hidden');
    ring.setAttribute('cx', point.x);
    ring.setAttribute('cy', point.y);
    ring.setAttribute('visibility', 'visible');
  };
  for (const plot of plots) {
    const leave = () => { plots.forEach(({ ring }) => show(ring)); hide(); };
    plot.svg.addEventListener('pointerleave', leave);
    const meet = (event) => {
      const [x, y, zoom] = inSvg(plot.svg, event);
      let best = null, reach = (16 / zoom) ** 2;
      for (const point of plot.points) {
        if (hidden.has(point.label)) continue;
        const away = (point.x - x) ** 2 + (point.y - y) ** 2;
        if (away < reach) { reach = away; best = point; }
      }
      if (!best) return leave();
      for (const other of plots) {
        const same = other === plot ? best
          : best.item === undefined ? null : other.points.find((point) => point.item === best.item && !hidden.has(point.label));
        show(other.ring, same);
      }
      const item = best.item === undefined ? {} : data.items[best.item] ?? {};
      const rows = [];
      if (item.c !== undefined) rows.push(thumbnail(item.c));
      const label = best.label ?? item.l;
      if (label !== undefined) rows.push(make('div', 'class', nameOf(label)));
      if (item.t) rows.push(make('div', 'words', item.t));
      if (!rows.length) rows.push(make('div', 'class', 'point ' + (best.index + 1)));
      place(event, rows);
    };
    plot.svg.addEventListener('pointermove', meet);
    plot.svg.addEventListener('pointerdown', meet);
  }

  // The legend: rest on a class to see it alone, press it to take it away.
  const rules = make('style');
  document.head.append(rules);
  let alone = null;
  const restyle = () => {
    const lines = [...hidden].map((label) => `.k${label}{display:none}`);
    if (alone !== null && !hidden.has(alone)) lines.push(`.scatter .pt:not(.k${alone}){opacity:.07}.scatter .k${alone}{opacity:1}`);
    rules.textContent = lines.join('');
  };
  for (const entry of all('.legend button')) {
    const label = Number(entry.dataset.class);
    const look = (value) => () => { alone = value; restyle(); };
    entry.addEventListener('pointerenter', look(label));
    entry.addEventListener('pointerleave', look(null));
    entry.addEventListener('click', () => {
      if (!hidden.delete(label)) hidden.add(label);
      entry.setAttribute('aria-pressed', String(!hidden.has(label)));
      restyle();
    });
  }
  const find = one('#find-class');
  if (find) {
    find.addEventListener('input', () => {
      const wanted = find.value.trim().toLowerCase();
      const match = wanted && data.shown.find((label) => nameOf(label).toLowerCase().startsWith(wanted));
      alone = wanted && match !== undefined ? match : null;
      restyle();
    });
  }

  addEventListener('beforeprint', () => all('details').forEach((fold) => { fold.open = true; }));
  // What a test can see: how far this script came, and what it found.
  root.dataset.points = plots.reduce((sum, plot) => sum + plot.points.length, 0);
  root.dataset.ready = 'yes';
})();
