/**
 * A whole replay: parse, group, plan, and play under one policy; of a written trace of 300,000 events, and of a recording
 * over and over. The reader is also timed alone, so that grouping is what is left of both. `npm run build` first.
 *
 *   node bench/replay.js [EVENTS]
 *
 * The best round counts, by its whole time. Rounds are short, so that on a shared machine one of them is left alone.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { inlineMore } from '../dist/cli/inlining.js';
import { Grouper, Player, planCalls } from '../dist/replay/index.js';
import { FtraceTextReader, Names } from '../dist/trace/index.js';
import { makeTrace } from './make-trace.js';

// As the command line does.
inlineMore();

const CHUNK = 1 << 20;
const silent = { event() {}, skipped() {} };

function timed(work) {
  const start = performance.now();
  const result = work();
  return [performance.now() - start, result];
}

function parse(chunks, sink, names) {
  const reader = new FtraceTextReader(names, sink);
  for (const chunk of chunks) reader.push(chunk);
  return reader.end();
}

function round(chunks, mapFlush, unmapFlush) {
  const [parseMs] = timed(() => parse(chunks, silent, new Names()));
  const names = new Names();
  const grouper = new Grouper(names);
  const [bothMs] = timed(() => {
    parse(chunks, grouper, names);
    grouper.finish();
  });
  const [planMs, plan] = timed(() => planCalls(grouper));
  const player = new Player(plan, { preset: 'linux-6.12', mapFlush, unmapFlush, cachingMode: true });
  const [playMs] = timed(() => {
    while (player.step(1e6));
  });
  const result = player.result();
  return { parseMs, bothMs, planMs, playMs, totalMs: bothMs + planMs + playMs, plan, result };
}

/** The best of some rounds, with the reader's own best time. */
function best(chunks, mapFlush, unmapFlush, nrRounds) {
  let found;
  let parseMs = Infinity;
  for (let i = 0; i < nrRounds; i++) {
    const one = round(chunks, mapFlush, unmapFlush);
    if (one.parseMs < parseMs) parseMs = one.parseMs;
    if (found === undefined || one.totalMs < found.totalMs) found = one;
  }
  return { ...found, parseMs, groupMs: found.bothMs - parseMs };
}

function report(name, found, nrEvents, more) {
  const ns = (ms) => ((ms * 1e6) / nrEvents).toFixed(0).padStart(5);
  const rate = (nr) => (nr / found.totalMs / 1e3).toFixed(2);
  process.stdout.write(
    `${name.padEnd(16)} ns/event: parse${ns(found.parseMs)} group${ns(found.groupMs)} plan${ns(found.planMs)} ` +
      `play${ns(found.playMs)}  total${ns(found.totalMs)}  ${rate(nrEvents)} M events/s  ${more(rate)}\n`,
  );
}

const policies = [
  ['sync-map', 'strict'],
  ['sync-map', 'lazy'],
  ['none', 'strict'],
];

const written = [];
const nrWritten = makeTrace(Number(process.argv[2] ?? 300_000), (text) => written.push(new TextEncoder().encode(text)));
process.stdout.write(`written trace, ${nrWritten} map and unmap events (bench/make-trace.js)\n`);
for (const [mapFlush, unmapFlush] of policies) {
  const found = best(written, mapFlush, unmapFlush, 16);
  const { commands } = found.result;
  report(
    `${mapFlush} ${unmapFlush}`,
    found,
    nrWritten,
    () => `(${commands.page} page, ${commands.domain} domain commands)`,
  );
}

for (const run of ['intel-cmon-strict-small-6.1', 'intel-cmon-strict-small-6.12']) {
  const text = gunzipSync(readFileSync(new URL(`../traces/${run}/trace.txt.gz`, import.meta.url)));
  const chunks = [];
  for (let at = 0; at < text.length; at += CHUNK) chunks.push(text.subarray(at, at + CHUNK));
  const { events } = parse(chunks, silent, new Names());
  const found = best(chunks, 'sync-map', 'strict', 120);
  const { counts } = found.plan;
  const nrMaps = counts.map + counts.unmap;
  process.stdout.write(`recording ${run}, ${events} events, ${nrMaps} of them map and unmap\n`);
  report('sync-map strict', found, nrMaps, (rate) => `(${rate(events)} M events of all kinds/s)`);
}
