"""What words the tables of benchmarks/records/sizing.json, for docs/scaling.md."""

from __future__ import annotations

import math
from typing import Any

_STAGES = ("from JPEG files", "over HTTP")
_HALF = "-bf16"
_GPU = (
    "| ResNet-50 256x128 on a GPU | - | not measured | not measured "
    "| `benchmarks/gpu.py`, not run yet |"
)
_NAMES = {
    "resnet50 256x128": "ResNet-50 256x128",
    "resnet18 128x64": "ResNet-18 128x64",
    "demonstration 128x64": "demonstration 128x64",
}
_ORDER = tuple(_NAMES)


def tabulate_sizing(record: dict[str, Any]) -> str:
    """Tabulate rates, ways of keeping vectors, indexes, and the model with what it assumes."""
    parts = [_tabulate_rates, _tabulate_ways, _tabulate_totals, _tabulate_indexes, _tabulate_model]
    return "\n\n".join("\n".join(part(record)) for part in parts)


def _tabulate_rates(record: dict[str, Any]) -> list[str]:
    rates = record["model"]["rates"]
    lines = [
        "| pictures | engine | a second, 2 cores | a day, one core | record |",
        "|---|---|---:|---:|---|",
    ]
    shown = [r for r in rates if r["stage"] in _STAGES or r["way"].endswith(_HALF)]
    shown.sort(key=lambda rate: (_ORDER.index(rate["network"]), rate["per_core_second"]))
    lines += [
        f"| {_NAMES[rate['network']]}, {rate['stage']} | {rate['way'].replace('-', ' ')} "
        f"| {rate['pictures_per_second']:,.0f} | {rate['per_core_day'] / 1e6:,.1f} M "
        f"| {rate['record'].rpartition('/')[2]}, {rate['processor'].split(' ')[0]} |"
        for rate in shown
    ]
    if not any(rate["record"].endswith("gpu.json") for rate in rates):
        lines.append(_GPU)
    return lines


def _tabulate_ways(record: dict[str, Any]) -> list[str]:
    parts = {name: part["found"] for name, part in record["parts"].items()}
    drawn, long = parts["drawn"], parts["market"]
    few, many = parts["made-10k"], parts["made-100k"]
    lines = [
        "| kept as | bytes, D=512 | D=2048 | drawn people, D=512: mAP, Rank-1, recall@10 "
        "| made, D=512: recall@10 of 10,000, 100,000 | made, D=2048: mAP, Rank-1, recall@10 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, found in drawn["ways"].items():
        other = long["ways"][way]
        recalls = [part["ways"][way]["recall_at_10"] for part in (few, many)]
        lines.append(
            f"| {way} | {found['bytes']:,.0f} | {other['bytes']:,.0f} | {_word_scores(found)} "
            f"| {recalls[0]:.3f}, {recalls[1]:.3f} | {_word_scores(other)} |"
        )
    lines += [
        "",
        f"Drawn people: {drawn['queries']:,} queries, {drawn['gallery']:,} pictures of people that "
        "the demonstration's network never saw, quantisers trained on others still. Made: vectors "
        f"whose noise has no structure; {many['queries']} queries, 20 crops a person, and for "
        f"D=2048 {long['queries']:,} queries, {long['gallery']:,} vectors as hard as "
        "Market-1501's. "
        '"then float16": the first 100 of PQ ordered anew by float16, which may lie on disk.',
    ]
    return lines


def _tabulate_totals(record: dict[str, Any]) -> list[str]:
    totals = record["model"]["totals"]
    lines = [
        f"| GiB of vectors, D=512 and 2048 | {' | '.join(_word_count(t) for t in totals)} |",
        "|---|" + "---:|" * len(totals),
    ]
    long = record["parts"]["market"]["found"]["ways"]
    for way in record["model"]["costs"]["kept"]:
        if not way.endswith("float16") or way == "float16":
            cells = (
                f"{_round(t['vectors_gib'][way])}, "
                f"{_round(t['vectors'] * long[way]['bytes'] / 2**30)}"
                for t in totals
            )
            lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def _tabulate_indexes(record: dict[str, Any]) -> list[str]:
    costs, checks = record["model"]["costs"], record["model"]["checks"]
    memory, graph = checks["memory at 1,000,000, MiB"], checks["HNSW index at 100,000, MiB"]
    long = record["parts"]["hnsw-2048"]["found"]
    each = (long[1]["index"] - long[0]["index"]) / (long[1]["vectors"] - long[0]["vectors"])
    return [
        "| index | bytes a vector | measured at | held against |",
        "|---|---:|---|---|",
        f"| default store, float32 in memory, D=512 | {costs['held']['each']:,.0f} "
        "| 100,000, 300,000 | - |",
        f"| default store, float32 on disk, D=512 | {costs['screened']['each']:,.0f} "
        f"| 100,000, 300,000 | 1,000,000: {memory['line']:,.0f} MiB by the line, "
        f"{memory['record']:,.0f} MiB in service.json |",
        f"| pgvector HNSW (float16), D=512 | {costs['graph']['each']:,.0f} | 20,000, 50,000 "
        f"| 100,000: {graph['line']:,.1f} MiB by the line, {graph['record']:,.1f} MiB in "
        "service.json |",
        f"| pgvector HNSW (float16), D=2048 | {each:,.0f} | 5,000, 10,000 | - |",
    ]


def _tabulate_model(record: dict[str, Any]) -> list[str]:
    totals, have = record["model"]["totals"], record["model"]["nodes_have"]
    hours = [total["core_hours"] for total in totals]
    index = [total["index_gib"] for total in totals]
    rows = {
        "core-hours, ResNet-50 float32": [
            f"{h['float32, fastest record']:,.0f} to {h['float32, slowest record']:,.0f}"
            for h in hours
        ],
        "core-hours, ResNet-50 int8": [f"{h['int8 (openvino)']:,.0f}" for h in hours],
        "GiB of vectors, float32": [_round(t["vectors_gib"]["float32"]) for t in totals],
        "GiB of vectors, float16": [_round(t["vectors_gib"]["float16"]) for t in totals],
        "GiB of memory, exact, float32 in memory": [_round(i["held"]) for i in index],
        "GiB of memory, exact, float32 on disk": [_round(i["screened"]) for i in index],
        "GiB of HNSW index": [_round(i["hnsw"]) for i in index],
        "nodes, exact search in 100 ms": [f"{t['nodes']['100 ms']:,}" for t in totals],
        "nodes, exact search in 1 s": [f"{t['nodes']['1000 ms']:,}" for t in totals],
    }
    return [
        f"| D=512 | {' | '.join(_word_count(t) for t in totals)} |",
        "|---|" + "---:|" * len(totals),
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
        "",
        f"A node has {have['cores']} cores and {have['memory_gib']:.0f} GiB for its index.",
    ]


def _word_scores(found: dict[str, float]) -> str:
    return f"{100 * found['mAP']:.1f}, {100 * found['rank1']:.1f} %, {found['recall_at_10']:.3f}"


def _word_count(total: dict[str, Any]) -> str:
    return f"10^{round(math.log10(total['vectors']))}"


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
