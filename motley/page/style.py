"""The look of a page in light and dark, and the script that draws its charts and works its switch and buttons."""

_LIGHT = (
    "--paper:#fff;--card:#f6f8fa;--line:#dfe3e8;--ink:#1d2329;--soft:#57606a;"
    "--link:#0b5cad;--best:#0b7a4b;--bad:#b3261e"
)
_DARK = (
    "--paper:#14181c;--card:#1b2026;--line:#2c333a;--ink:#e4e8ec;--soft:#9aa5b1;"
    "--link:#7fb2e5;--best:#54d398;--bad:#ff8a80"
)

STYLE = (
    f":root{{color-scheme:light;{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{_DARK}}}}}"
    f":root[data-theme=dark]{{color-scheme:dark;{_DARK}}}"
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1200px;margin:0 auto;padding:24px 16px 48px}main:focus{outline:none}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
.skip{position:absolute;left:8px;top:-60px;background:var(--card);padding:.5rem .8rem;z-index:9}.skip:focus{top:8px}
button{font:inherit;font-size:.85rem;color:var(--ink);background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:.25rem .7rem;cursor:pointer}button:hover{border-color:var(--soft)}
#theme{position:absolute;top:12px;right:max(12px,calc(50% - 584px))}
a{color:var(--link)}
h1{font-size:1.5rem;line-height:1.25;margin:0 5rem .5rem 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1rem 0 .25rem}p{margin:.4rem 0;overflow-wrap:anywhere}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:1rem 0 0;font-size:.9rem}
ul{padding-left:1.2rem;margin:.4rem 0}li{margin:.2rem 0;overflow-wrap:anywhere}
.result{font-size:1.1rem;background:var(--card);border-left:4px solid #e4572e;padding:.6rem .9rem;border-radius:4px}
.failed{color:var(--bad)}.note{color:var(--soft);font-size:.85rem}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem;width:100%}
caption{text-align:left;font-weight:600;padding:.2rem 0;caption-side:top}
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
thead th{color:var(--soft);font-weight:500;vertical-align:bottom}
.words{text-align:left;white-space:normal;overflow-wrap:break-word;min-width:6rem}
tr>:first-child{position:sticky;left:0;background:var(--paper)}
td.best{font-weight:700;color:var(--best)}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--link);padding:.2rem 0}
pre{background:var(--card);padding:.7rem .9rem;border-radius:4px;overflow:auto;max-height:26rem;font-size:.85rem}
figure{margin:0;min-width:0}.views{display:flex;flex-wrap:wrap;gap:.4rem;margin:.4rem 0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:8px 24px}.pair>*{min-width:0}
@media (max-width:800px){.pair{grid-template-columns:1fr}main{padding:16px 10px 32px}h1{font-size:1.25rem}
tr>:first-child{max-width:45vw;white-space:normal}}
@media print{#theme,.skip,nav,.views{display:none}}
"""
)

SCRIPT = """
const root = document.documentElement;
const system = matchMedia('(prefers-color-scheme:dark)');
const narrow = matchMedia('(max-width:600px)');
const button = document.getElementById('theme');
const stored = (() => { try { return localStorage.getItem('motley-theme'); } catch { return null; } })();
if (stored === 'dark' || stored === 'light') root.dataset.theme = stored;
const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : system.matches;
const charts = [...document.querySelectorAll('.chart')].map(box => {
  const chart = JSON.parse(box.querySelector('script').textContent);
  box.textContent = '';
  return [box, chart];
});
function themed(layout) {
  const ink = isDark() ? '#c9d1d9' : '#343b43', line = isDark() ? '#2c333a' : '#e3e7eb';
  const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, fixedrange: narrow.matches};
  const full = {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: {color: ink, size: 12},
    margin: {l: 10, r: 12, t: 14, b: 44}, ...layout};
  for (const name of ['xaxis', 'yaxis']) full[name] = {...axis, ...layout[name]};
  return full;
}
const options = {responsive: true, displaylogo: false, displayModeBar: false};
function draw() {
  button.textContent = isDark() ? 'Light' : 'Dark';
  button.setAttribute('aria-label', `Switch to ${isDark() ? 'light' : 'dark'} colours`);
  for (const [box, chart] of charts) Plotly.react(box, chart.data, themed(chart.layout), options);
}
draw();
button.hidden = false;
button.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  try { localStorage.setItem('motley-theme', root.dataset.theme); } catch { /* not kept */ }
  draw();
});
for (const view of document.querySelectorAll('.views button')) view.addEventListener('click', () =>
  Plotly.relayout(view.closest('figure').querySelector('.chart'),
    {'xaxis.range': [Number(view.dataset.from), Number(view.dataset.to)]}));
system.addEventListener('change', draw);
narrow.addEventListener('change', draw);
"""
