# SPDX-License-Identifier: Apache-2.0
"""The HTML of the review, Jinja templates by name, self-contained: no scripts, no files beside it."""

from __future__ import annotations

_STYLE = """
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
:root { --success: #1a7f37; --none: #6e7781; --reset: #bc4c00; --doubt: #cf222e; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 0 16px 32px; color: #1f2328; background: #fff; }
header { position: sticky; top: 0; background: #fff; padding: 10px 0 8px; border-bottom: 1px solid #d0d7de; z-index: 2; }
h1 { font-size: 18px; margin: 0 0 4px; } a { color: #0969da; } .quiet { color: #59636e; }
nav { float: right; display: flex; gap: 14px; }
.bar { display: flex; height: 12px; margin: 6px 0; border-radius: 3px; overflow: hidden; min-width: 200px; }
.success { background: var(--success); } .none { background: var(--none); } .reset { background: var(--reset); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 12px; }
.key.doubt { background: var(--doubt); }
.strip { display: flex; flex-wrap: wrap; gap: 8px 6px; margin-top: 12px; }
.frame { width: 128px; scroll-margin-top: 150px; } .frame img { display: block; width: 128px; image-rendering: pixelated; }
.frame img + img { margin-top: 2px; } .jump { margin-right: 6px; }
.frame p { margin: 0; color: #fff; padding: 1px 5px; font-size: 12px; display: flex; justify-content: space-between; }
.frame .told { height: 16px; position: relative; background: #eaeef2; font-size: 11px; text-align: right; padding-right: 5px; }
.frame .told i { position: absolute; left: 0; top: 0; bottom: 0; background: #80ccff; }
.frame .told b { position: relative; font-weight: 400; }
.frame.doubted .told { background: #ffcecb; } .frame.doubted .told i { background: #ff8182; }
.frame.is-reset img { opacity: .45; }
.frame.changed { outline: 3px solid #bf8700; } .frame.doubted { outline: 3px solid var(--doubt); }
.frame:target { box-shadow: 0 0 0 7px #b6e3ff; }
.frame img:hover { transform: scale(2.2); position: relative; z-index: 1; opacity: 1; }
table { border-collapse: collapse; margin-top: 12px; } td, th { padding: 6px 12px; text-align: right; vertical-align: middle; }
th { font-weight: 600; border-bottom: 1px solid #d0d7de; } td.wide { width: 100%; text-align: left; }
tr + tr td { border-top: 1px solid #eaeef2; } td.pictures { white-space: nowrap; } th.left, td.pictures { text-align: left; }
td.pictures img { height: 64px; margin-right: 2px; vertical-align: middle; } td.pictures span + span { margin-left: 8px; }
</style>
"""

_KEY = """
<span class="key success"></span>success (reward 1)<span class="key none"></span>no success (reward 0)
<span class="key reset"></span>reset, leaves the dataset
{% if judgement %}<span class="key doubt"></span>the classifier disagrees{% endif %}
"""

_BAR = """
<div class="bar">{% for label, count in row.runs %}<span class="{{ label }}" style="flex: {{ count }}"
title="{{ count }} frames"></span>{% endfor %}</div>
"""

_INDEX = """<!doctype html><html lang="en"><head><title>Labels of {{ name }}</title>{% include "style" %}</head><body>
<header><h1>Labels of {{ name }}</h1>
{% set length, success = rows | sum(attribute="length"), rows | sum(attribute="success") %}
{% set reset = rows | sum(attribute="reset") %}
<div class="quiet">From {{ made_by }}. {{ rows | length }} episodes, {{ length }} frames: {{ success }} success,
{{ length - success - reset }} no success, {{ reset }} reset.{% include "key" %}</div>
{% if judgement %}
<div class="quiet">Classifier {{ judgement.classifier }}, success above {{ "%.3f" % judgement.threshold }}: it disagrees with
{{ rows | map(attribute="doubted") | map("length") | sum }} labels.</div>
{% endif %}</header>
<table><tr><th>episode</th><th>frames</th><th>success</th><th>reset</th><th>first success</th>
{% if judgement %}<th>disagreements</th>{% endif %}
<th class="left">frame before, and first success (or last frame)</th><th></th></tr>
{% for row in rows %}
<tr><td><a href="{{ row.file }}">{{ row.index }}</a></td><td>{{ row.length }}</td><td>{{ row.success }}</td>
<td>{{ row.reset }}</td><td>{% if row.first is none %}never{% else %}
<a href="{{ row.file }}#f{{ row.first }}">{{ row.first }}</a>{% endif %}</td>
{% if judgement %}
<td>{% if row.doubted %}<a href="{{ row.file }}#f{{ row.doubted[0] }}">{{ row.doubted | length }}</a>{% else %}0{% endif %}</td>
{% endif %}
<td class="pictures">{% for frame in row.shown %}<span title="frame {{ frame.number }}">{% for image in frame.images %}
<img src="{{ image }}" alt="">{% endfor %}</span>{% endfor %}</td>
<td class="wide">{% include "bar" %}</td></tr>
{% endfor %}
</table></body></html>
"""

_EPISODE = """<!doctype html><html lang="en"><head><title>Episode {{ row.index }} of {{ name }}</title>
{% include "style" %}</head><body>
<header><nav>{% if before %}<a href="{{ before.file }}">← episode {{ before.index }}</a>{% endif %}
<a href="index.html">all episodes</a>{% if after %}
<a href="{{ after.file }}">episode {{ after.index }} →</a>{% endif %}</nav>
<h1>Episode {{ row.index }} of {{ name }}</h1>
<div class="quiet">{{ row.length }} frames, {{ row.success }} success, {{ row.reset }} reset.
Cameras from top to bottom: {{ cameras | join(", ") }}.{% include "key" %}</div>{% include "bar" %}
<div class="quiet">Labels change at frame:
{% for frame in frames if frame.changed %}
<a class="jump" href="#f{{ frame.number }}">{{ frame.number }}</a>
{% else %}
none
{% endfor %}
</div>
{% if judgement %}
<div class="quiet">The classifier (success above {{ "%.3f" % judgement.threshold }}) disagrees at frame:
{% for number in row.doubted %}
<a class="jump" href="#f{{ number }}">{{ number }}</a>
{% else %}
none
{% endfor %}
</div>
{% endif %}</header>
<div class="strip">
{% for frame in frames %}
<div class="frame is-{{ frame.label }}{% if frame.changed %} changed{% endif %}{% if frame.doubted %} doubted{% endif %}"
id="f{{ frame.number }}">
{% for image in frame.images %}<img src="{{ image }}" alt="">{% endfor %}
<p class="{{ frame.label }}"><span>{{ frame.number }}</span><span>{{ names[frame.label] }}</span></p>
{% if frame.probability is not none %}
<div class="told" title="probability of success, says the classifier">
<i style="width: {{ "%.1f" % (100 * frame.probability) }}%"></i><b>{{ "%.3f" % frame.probability }}</b></div>
{% endif %}
</div>
{% endfor %}
</div></body></html>
"""

TEMPLATES = {"style": _STYLE, "key": _KEY, "bar": _BAR, "index": _INDEX, "episode": _EPISODE}
