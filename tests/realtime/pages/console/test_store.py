"""The rows that the console holds, by its own module in a browser: their order, and what is shown of them."""

from __future__ import annotations

import pytest

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database

#: A store, its view, and what makes and reads rows.
SETUP = """
    const { MAX_ROWS, Store, View } = await import("/static/realtime/console/store.js");
    const row = (seq, body = null) => ({ key: 0, gap: null, seq, type: "call", text: "", body });
    const gap = (after, before) => ({ ...row(null), gap: { after, before } });
    const numbers = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
    const rows = (first, last, body) => numbers(first, last).map((seq) => row(seq, body));
    const seqs = (held) => held.map((each) => each.seq);
    const store = new Store();
    const view = new View(store, () => {});
    const add = (added) => { store.append(added); view.appended(added); };
    const scanned = async () => { while (view.isFiltering) await new Promise((resolve) => setTimeout(resolve)); };
"""


@pytest.fixture
def evaluate(page):
    """Return what JavaScript returns that has a store and its view."""
    page.goto("/docs/")
    return lambda code: page.evaluate(f"async () => {{ {SETUP} {code} }}")


def test_a_pause_holds_while_rows_are_filtered_and_counts_those_that_come(evaluate):
    found = evaluate("""
        add(rows(1, 1000));
        const filter = (each) => {
            for (const end = performance.now() + 10; each.seq % 256 === 0 && performance.now() < end; );  // a slice
            return each.seq % 2 === 0;
        };
        view.setFilter(filter);
        const wasFiltering = view.isFiltering;
        view.pause();
        add(rows(1001, 1010));
        await scanned();
        const paused = [seqs(view.rows).at(-1), view.waiting];
        view.setFilter((each) => each.seq > 990 && each.seq % 5 !== 0);
        await scanned();
        const filtered = [seqs(view.rows).at(-1), view.waiting];
        view.resume();
        await scanned();
        return { wasFiltering, paused, filtered, resumed: [seqs(view.rows).at(-1), view.waiting] };
    """)
    assert found == {"wasFiltering": True, "paused": [1000, 5], "filtered": [999, 8], "resumed": [1009, 0]}


def test_rows_that_come_after_all_were_cleared_wait_for_the_end_of_a_pause(evaluate):
    found = evaluate("""
        add([...rows(1, 100), gap(100, 102), row(102)]);
        const before = new Set(store.rows.map((each) => each.key));
        view.pause();
        store.clear();
        view.refresh();
        store.prepend(rows(-2, 0));
        add(rows(103, 105));
        view.refresh();
        await scanned();
        const repeated = store.rows.filter((each) => before.has(each.key));
        return [seqs(store.rows), seqs(view.rows), view.waiting, store.gaps, repeated];
    """)
    assert found == [[-2, -1, 0, 103, 104, 105], [-2, -1, 0], 3, 0, []]


def test_gaps_are_counted_that_have_a_row(evaluate):
    found = evaluate("""
        const first = gap(1, 3);
        add([row(1), first, row(3), gap(3, 5), row(5)]);
        const counts = [store.gaps];
        store.replace(first, [row(2)]);
        counts.push(store.gaps);
        add(rows(6, MAX_ROWS + 1100));
        return [...counts, store.gaps];
    """)
    assert found == [2, 1, 0]


def test_events_of_a_gap_are_bounded_as_others(evaluate):
    found = evaluate("""
        const missed = gap(100, 20_101);
        const body = '{"data":"' + "x".repeat(30_000) + '"}';
        add([...rows(1, 100, body), missed, ...rows(20_101, MAX_ROWS)]);
        store.replace(missed, rows(101, 20_100, body));
        const held = store.rows.reduce((sum, each) => sum + (each.body?.length ?? 0), 0);
        return [store.rows.length <= MAX_ROWS + 1000, seqs(store.rows).at(-1), held];
    """)
    assert found[:2] == [True, 100_000]
    assert 0 < found[2] <= 90_000_000


def test_events_of_a_gap_are_bounded_where_those_before_it_are_emptied(evaluate):
    found = evaluate("""
        const body = '{"data":"' + "x".repeat(30_000) + '"}';
        const missed = gap(5, 1006);
        add([...rows(1, 5, body), missed, ...rows(1006, 4500, body)]);
        store.replace(missed, rows(6, 1005, body));
        const held = store.rows.filter((each) => each.body !== null).map((each) => each.seq);
        return [held.length <= 3000, held[0] + held.length - 1];
    """)
    assert found == [True, 4500]


def test_a_gap_that_is_loaded_in_many_parts_keeps_its_order(evaluate):
    found = evaluate("""
        let rest = gap(0, 60_001);
        add([rest, row(60_001)]);
        for (let seq = 0; seq < 60_000; seq += 1000) {
            const next = seq < 59_000 ? gap(seq + 1000, 60_001) : null;
            store.replace(rest, rows(seq + 1, seq + 1000), next);
            rest = next;
        }
        const isSorted = store.rows.every((each, index) => !index || each.key > store.rows[index - 1].key);
        return [isSorted, seqs(store.rows).every((seq, index) => seq === index + 1), store.rows.length, store.gaps];
    """)
    assert found == [True, True, 60_001, 0]
