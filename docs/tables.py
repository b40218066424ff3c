"""What words the tables of committed records, for README and the documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tables_sizing import tabulate_sizing

_WAYS = {
    "engine": "engine alone, batches ready in memory",
    "embed": "**`embed` from JPEG files**",
    "folder": "`embed` into a resumable folder",
    "files": "one `.bin` file a picture (Pillow, numpy), then read back",
    "loop": "plain decode-then-run loop (Pillow, numpy)",
    "ours": "that loop with reidkit's `load_batch`",
}


_SCORERS = {
    "product": "bare product, query x gallery",
    "evaluate": "**`evaluate`**",
    "evaluate-small": "`evaluate --memory 256MiB`",
    "evaluate-euclidean": "`evaluate --metric euclidean`",
    "reference": "reid-strong-baseline's scorer",
    "torchreid": "torchreid's scorer, Python",
    "torchreid-compiled": "torchreid's scorer, compiled",
    "product-all": "bare product, all x all",
    "rerank": "**`evaluate --rerank`**",
    "reference-rerank": "reid-strong-baseline's re-ranking and scorer",
}
_SCORED = {
    "Market-1501's size": ("market", "market-others", "market-rerank-others"),
    "MSMT17's size": ("msmt17", "msmt17-rerank"),
    "Market-1501 and 500,000 distractors, on disk": ("market-500k",),
}
_SCORED_TWICE = {("market-others", "product"), ("market-others", "evaluate")}
_FILTERS = ("all", "one camera")
_SEARCHES = {
    "search-100k": "**default store**, 100,000",
    "search-1m": "**default store**, 1,000,000",
    "postgres-100k": "PostgreSQL, 100,000",
    "postgres-1m": "PostgreSQL, 1,000,000",
}
_DEPLOYED = {"demonstration": "demonstration 128x64", "resnet50": "ResNet-50 256x128"}
_NETWORKS = {
    "shipped": "**the demonstration's network**",
    "untrained": "the same network, untrained",
    "colour histogram": "colour histogram in six stripes",
}
_ROWS = {
    "colours": "no network: colour histogram in six stripes",
    "untrained": "untrained",
    "pretrained": "pretrained on other drawn people",
    "softmax": "fine-tuned, softmax only",
    "triplet": "+ triplet",
    "warm-up": "+ warm-up",
    "erasing": "+ random erasing",
    "smoothing": "+ label smoothing",
    "stride": "+ last stride 1",
    "bnneck": "+ BNNeck",
    "centre": "+ centre loss: the whole recipe",
    "re-ranking": "re-ranked",
}


def _tabulate_pipeline(record: dict[str, Any]) -> str:
    lines = []
    for network, result in record["results"].items():
        lines += [
            f"| {network} | pictures/s | share of the engine alone | bytes written a picture "
            "| peak memory |",
            "|---|---:|---:|---:|---:|",
        ]
        for way, figures in result["ways"].items():
            lines.append(
                f"| {_WAYS[way]} | {figures['pictures_per_second']:,.1f} "
                f"| {figures['share_of_engine']:.2f} "
                f"| {figures['bytes_written_per_picture']:,.0f} "
                f"| {figures['peak_mib']:,.0f} MiB |"
            )
        lines.append("")
    first = next(iter(record["results"].values()))
    machine = record["machine"]
    lines.append(
        f"{_place(machine)}, onnxruntime {machine['onnxruntime']}, "
        f"batch {record['batch']}, medians of {first['rounds']} alternating runs, "
        f"{machine['date']}."
    )
    return "\n".join(lines)


def _tabulate_engines(record: dict[str, Any]) -> str:
    results = record["pictures_per_second"]
    batches = list(results["eager"])
    lines = [
        "| ResNet-50 256x128, pictures/s at batch | " + " | ".join(batches) + " |",
        "|---|" + "---:|" * len(batches),
    ]
    for way, rates in results.items():
        if way != "peak":
            name = "torch, eager" if way == "eager" else way.replace("-", " ")
            lines.append(f"| {name} | " + " | ".join(f"{rates[b]:.1f}" for b in batches) + " |")
    machine = record["machine"]
    lines += [
        "",
        f"A float32 matrix product at this machine's best would be {results['peak']['any']:.1f} "
        f"pictures/s. {_place(machine)}, onnxruntime {machine['onnxruntime']}, "
        f"openvino {machine['openvino']}, torch {machine['torch']}, {_word_rounds(record)}, "
        f"each engine in a process of its own, {machine['date']}. {record.get('note', '')}".strip(),
    ]
    return "\n".join(lines)


def _tabulate_deployments(record: dict[str, Any]) -> str:
    """Tabulate what each network's certificates say; scores only of the one that was trained."""
    lines = [
        "| | verdict | mAP source, compiled | Rank-1 source, compiled "
        "| smallest cosine | speed | of it from JPEG files | size |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for network, title in _DEPLOYED.items():
        for way, result in record[network]["results"].items():
            name = f"{title}, {way.replace('-', ' ')}"
            lines.append(_word_deployment(name, result, scored=network == "demonstration"))
    shown = record["demonstration"]
    queries = next(iter(shown["results"].values()))["source"]["scores"]["queries"]
    dates = {record[network]["machine"]["date"] for network in _DEPLOYED}
    lines += [
        "",
        f"The demonstration's network on drawn people that it never saw, {queries} queries, and an "
        "untrained ResNet-50, whose speed and vectors count. Refused: one picture in two thousand "
        "got another vector, which no choice of float layers mended. Speed is that of the source "
        f"package in onnxruntime, in the same run. {_place(shown['machine'])}, "
        f"{' and '.join(sorted(dates))}.",
    ]
    return "\n".join(lines)


def _word_deployment(name: str, result: dict[str, Any], *, scored: bool) -> str:
    if "error" in result:
        return f"| {name} | refused{' | -' * 6} |"
    before, after = (result[role]["scores"] for role in ("source", "compiled"))
    compiled = result["compiled"]
    best = str(compiled["best_batch"])
    share = compiled["end_to_end_rate"][best] / compiled["engine_rate"][best]
    scores = [
        f"{100 * before[key]:.2f}, {100 * after[key]:.2f} %" if scored else "-"
        for key in ("mAP", "rank1")
    ]
    cells = [
        *(name, result["verdict"], *scores),
        f"{result['agreement']['minimum_cosine']:.5f}",
        f"{result['speed_over_source']:.2f} x",
        f"{share:.2f}",
        f"{compiled['size_bytes'] / 1e6:.1f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _tabulate_guide(record: dict[str, Any]) -> str:
    preparing, guide = record["preparing"], record["guide"]
    script, ours = (preparing["ways"][way] for way in ("script", "reidkit"))
    lines = [
        "| step 1, pictures to `.bin` files | pictures/s | processor seconds | peak memory |",
        "|---|---:|---:|---:|",
    ]
    for name, figures in (("as the guide's script does it", script), ("**reidkit**", ours)):
        lines.append(
            f"| {name} | {figures['pictures_per_second']:,.0f} | {figures['cpu_seconds']:.1f} "
            f"| {figures['peak_mib']:,.0f} MiB |"
        )
    lines += [
        "",
        "| the whole guide, ResNet-50 256x128 | wall time | pictures, vectors written | memory |",
        "|---|---:|---:|---:|",
    ]
    names = {"files": "`--files`, as it is written", "streaming": "**streaming**"}
    for way, name in names.items():
        figures = guide["ways"][way]
        lines.append(
            f"| {name} | {figures['seconds']:,.0f} s | {figures['bytes_written'] / 1e6:,.0f} MB "
            f"| {figures['peak_mib']:,.0f} MiB |"
        )
    accuracy = guide["ways"]["streaming"]["accuracy"]
    machine = record["machine"]
    lines += [
        "",
        f"{preparing['pictures']:,} and {accuracy['queries'] + accuracy['gallery']:,} drawn "
        f"pictures, batch sizes {guide['batches']}. The file way runs all pictures at each batch "
        "size, as the guide does; streaming measures each for a few seconds and scores the "
        "fastest. Both also write the network's own files, 94 MB for each batch size. "
        f"{_place(machine)}, {machine['date']}.",
    ]
    return "\n".join(lines)


def _tabulate_scoring(record: dict[str, Any]) -> str:
    lines = []
    for title, wanted in _SCORED.items():
        parts = [part for part in wanted if part in record["parts"]]
        if not parts:
            continue
        size = record["parts"][parts[0]]["size"]
        shape = f"{size['queries']:,} x {size['gallery']:,} vectors of {size['dimension']:,}"
        lines += [
            f"| {title}, {shape} | seconds | x the product | memory besides the vectors |",
            "|---|---:|---:|---:|",
        ]
        for part in parts:
            found = record["parts"][part]
            for way in (way for way in found["ways"] if (part, way) not in _SCORED_TWICE):
                figures, over = found["ways"][way], found["over_product"].get(way, 1)
                lines.append(
                    f"| {_SCORERS[way]} | {figures['seconds']:,.1f} | {over:,.2f} "
                    f"| {figures['extra_mib']:,.0f} MiB |"
                )
        lines.append("")
    machine = record["parts"]["market"]["machine"]
    lines.append(
        "The product: numpy's, of float32 vectors in memory, a block at a time; each way in "
        f"a process of its own, distances included. {_place(machine)}, {machine['date']}."
    )
    return "\n".join(lines)


def _tabulate_service(record: dict[str, Any]) -> str:
    """Tabulate the parts that were measured."""
    parts = record["parts"]
    lines = [
        "| search among 512-d vectors, recall@10 | one query, p50 and p99 | numpy's p50 "
        "| 64 in one call | numpy's |",
        "|---|---:|---:|---:|---:|",
    ]
    for part, title in _SEARCHES.items():
        found = parts.get(part, {})
        ways = [(title, found), (f"{title}, HNSW", found.get("index", {}))]
        for name, way in ((f"{t}, {f}", w[f]) for t, w in ways for f in _FILTERS if f in w):
            one, many = way["single"], way["64 in one call"]
            lines.append(
                f"| {name}, {way['recall_at_10']:.3f} | {one['p50_ms']:,.1f}, "
                f"{one['p99_ms']:,.1f} ms | {one['numpy_p50_ms']:,.1f} ms "
                f"| {many['p50_ms']:,.0f} ms | {many['numpy_p50_ms']:,.0f} ms |"
            )
    if "batching" in parts:
        lines += ["", *_tabulate_batching(parts["batching"])]
    machine = next(iter(parts.values()))["machine"]
    dates = {part["machine"]["date"] for part in parts.values()}
    lines += ["", f"{_place(machine)}, {' and '.join(sorted(dates))}; searches were measured on a "]
    lines[-1] += "machine that was not quiet."
    return "\n".join(lines)


def _tabulate_batching(part: dict[str, Any]) -> list[str]:
    lines = [
        "| 32 clients | requests/s | of the engine alone | p50, p99 |",
        "|---|---:|---:|---:|",
    ]
    for network, found in part["networks"].items():
        for name, way in found["ways"].items():
            p50, p99 = (way["latency"][key] for key in ("p50_ms", "p99_ms"))
            lines.append(
                f"| {network}: {name} | {way['requests_per_second']:,.1f} "
                f"| {way['share_of_engine']:.2f} | {p50:,.0f}, {p99:,.0f} ms |"
            )
    return lines


def _tabulate_demo_model(record: dict[str, Any]) -> str:
    places = list(record["drawn"])
    lines = [
        "| | " + " | ".join(f"{place}: mAP, Rank-1" for place in places) + " |",
        "|---|" + "---:|" * len(places),
    ]
    for name, title in _NETWORKS.items():
        cells = [
            f"{100 * found['mAP']:.1f}, {100 * found['rank1']:.1f} %"
            for found in (record["scores"][name][place] for place in places)
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    seconds = max(record["training_seconds"].values())
    machine = record["machine"]
    lines += ["", f"{_word_again(record)} Training took {seconds / 60:.0f} minutes on one core."]
    lines[-1] += f" {_place(machine)}, {machine['date']}."
    return "\n".join(lines)


def _word_again(record: dict[str, Any]) -> str:
    """Say what came of training again, by the recipe and from other seeds."""
    shipped = record["scores"]["shipped"]
    words = []
    for name, found in sorted(record["scores"].items()):
        if name.startswith("trained again"):
            values = (f"{100 * each['mAP']:.1f}" for each in found.values())
            own = all(abs(each["mAP"] - shipped[key]["mAP"]) < 1e-9 for key, each in found.items())
            same = " (the same to the last bit)" if own else ""
            words.append(f"{name.removeprefix('trained again, ')}: {', '.join(values)} %{same}")
    return f"mAP when trained again, {'; '.join(words)}."


def _word_rounds(record: dict[str, Any]) -> str:
    rounds = record["rounds"]
    return "one round" if rounds == 1 else f"medians of {rounds} rounds"


def _place(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores"


def _tabulate_recipe(record: dict[str, Any]) -> str:
    """Tabulate what each part of the training recipe is worth."""
    lines = ["| | mAP | Rank-1 | mINP |", "|---|---:|---:|---:|"]
    for row, found in record["rows"].items():
        cells = [_word_spread(found[name]) for name in ("mAP", "rank1", "mINP")]
        lines.append(f"| {_ROWS.get(row, row)} | {' | '.join(cells)} |")
    settings, machine = record["settings"], record["machine"]
    most = max(len(found["seeds"]) for found in record["rows"].values())
    lines += [
        "",
        f"{settings['architecture']} at {settings['height']}x{settings['width']}, "
        f"{settings['people']} drawn people to train on, as many others to test on, "
        f"{settings['epochs']} epochs; mean and deviation of {most} seeds. {_place(machine)}, "
        f"{machine['date']}.",
    ]
    return "\n".join(lines)


def _word_spread(found: dict[str, Any]) -> str:
    spread = f" ± {100 * found['deviation']:.1f}" if len(found["runs"]) > 1 else ""
    return f"{100 * found['mean']:.1f}{spread} %"


def _tabulate_distributed(record: dict[str, Any]) -> str:
    """Tabulate what an engine costs beside one process."""
    lines = [
        "| | pictures | one process | Ray | more a picture | and without Ray's start |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    overhead = record["overhead"]
    for kind, title in (("fake", "an engine that takes no time"), ("resnet50", "ResNet-50")):
        found = overhead[kind]
        lines.append(
            f"| {title} | {found['pictures']:,} | {found['here_ms_a_picture']:.2f} ms "
            f"| {found['ray_ms_a_picture']:.2f} ms | {found['overhead_ms_a_picture']:.2f} ms, "
            f"{100 * found['overhead']:.1f} % "
            f"| {found['overhead_ms_a_picture_after_start']:.2f} ms, "
            f"{100 * found['overhead_after_start']:.1f} % |"
        )
    start = overhead["resnet50"]["start_seconds"]
    workers, runs = record["workers"], record["memory"]["runs"]
    memory = ", ".join(
        f"{run['peak_MiB']:,.0f} MiB at {run['pictures']:,} pictures "
        f"(driver {run['driver_peak_MiB']:,.0f})"
        for run in runs
    )
    machine = overhead["machine"]
    lines += [
        "",
        f"Starting Ray and its workers takes {start:.0f} s here. A second actor with one thread "
        f"beside the first: {workers['gain']:.2f} x. Most memory of all processes together: "
        f"{memory}. {_place(machine)}, ray {machine['ray']}, {machine['date']}.",
    ]
    return "\n".join(lines)


def _tabulate_sizing(record: dict[str, Any]) -> str:
    machine = record["parts"]["drawn"]["machine"]
    return (
        f"{tabulate_sizing(record)}\n\n{_place(machine)}, {machine['date']}; made by "
        "`benchmarks/sizing.py` (nothing is timed there: rates and times are those of the other "
        "records)."
    )


TABLES: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "README.md": {
        "pipeline": _tabulate_pipeline,
        "engines": _tabulate_engines,
        "deployments": _tabulate_deployments,
        "guide": _tabulate_guide,
        "scoring": _tabulate_scoring,
        "service": _tabulate_service,
        "demo_model": _tabulate_demo_model,
    },
    "docs/training.md": {"recipe": _tabulate_recipe},
    "docs/scaling.md": {"distributed": _tabulate_distributed, "sizing": _tabulate_sizing},
}
"""Document -> the records whose tables stand in it, and what words them."""
