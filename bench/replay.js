/**
 * A whole replay: parse, group, plan, and play under one policy; of a written trace of 300,000 events, and of a recording
 * over and over. The reader is also timed alone, so that grouping is what is left of both. `npm run build` first.
 *
 *   node bench/replay.js [EVENTS]
 *
 * Each round is timed in pieces of about a millisecond, and the total is that of the best time of each piece: on a shared machine
 * a millisecond is left alone now and then, a round of a tenth of a second hardly ever. The best whole round stands beside it.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { Grouper, Player, planCalls } from '../dist/replay/index.js';
import { FtraceTextReader, Names } from '../dist/trace/index.js';
import { makeTrace } from './make-trace.js';

const CHUNK = 1 << 18;
const silent = { event() {}, skipped() {} };

function inChunks(text) {
  const chunks = [];
  for (let at = 0; at < text.length; at += CHUNK) chunks.push(text.subarray(at, at + CHUNK));
  return chunks;
}

/** Milliseconds of each piece of a part: `work` is called until it returns false. */
function timed(work) {
  const pieces = [];
  for (let more = true; more;) {
    const start = performance.now();
    more = work();
    pieces.push(performance.now() - start);
  }
  return pieces;
}

/** Reads a chunk per call. */
function reading(chunks, sink, names, atEnd) {
  const reader = new FtraceTextReader(names, sink);
  let next = 0;
  return () => {
    if (next < chunks.length) {
      reader.push(chunks[next++]);
      return true;
    }
    reader.end();
    atEnd();
    return false;
  };
}

function round(chunks, mapFlush, unmapFlush) {
  const parse = timed(reading(chunks, silent, new Names(), () => {}));
  const names = new Names();
  const grouper = new Grouper(names);
  const both = timed(reading(chunks, grouper, names, () => grouper.finish()));
  let plan;
  const planning = timed(() => {
    plan = planCalls(grouper);
    return false;
  });
  const player = new Player(plan, { preset: 'linux-6.12', mapFlush, unmapFlush, cachingMode: true });
  const play = timed(() => player.step(1500));
  return { times: { parse, both, plan: planning, play }, plan, result: player.result() };
}

const sum = (pieces) => pieces.reduce((total, ms) => total + ms, 0);

/** Rounds: the best whole one, and the best time of each piece. */
function best(chunks, mapFlush, unmapFlush, nrRounds) {
  let found;
  let pieces;
  let wholeMs = Infinity;
  for (let i = 0; i < nrRounds; i++) {
    found = round(chunks, mapFlush, unmapFlush);
    const { times } = found;
    pieces ??= times;
    for (const part of Object.keys(times)) pieces[part] = times[part].map((ms, j) => Math.min(ms, pieces[part][j]));
    wholeMs = Math.min(wholeMs, sum(times.both) + sum(times.plan) + sum(times.play));
  }
  const parseMs = sum(pieces.parse);
  const planMs = sum(pieces.plan);
  const playMs = sum(pieces.play);
  const totalMs = sum(pieces.both) + planMs + playMs;
  return { parseMs, groupMs: sum(pieces.both) - parseMs, planMs, playMs, totalMs, wholeMs, ...found };
}

function report(name, found, nrEvents, more) {
  const ns = (ms) => ((ms * 1e6) / nrEvents).toFixed(0).padStart(5);
  const rate = (nr, ms = found.totalMs) => (nr / ms / 1e3).toFixed(2);
  process.stdout.write(
    `${name.padEnd(16)} ns/event: parse${ns(found.parseMs)} group${ns(found.groupMs)} plan${ns(found.planMs)} ` +
      `play${ns(found.playMs)}  total${ns(found.totalMs)}  ${rate(nrEvents)} M events/s, ` +
      `best round ${rate(nrEvents, found.wholeMs)}  ${more(rate)}\n`,
  );
}

/** A written trace under the policies. */
function written(isRecorded, policies) {
  const texts = [];
  const nrEvents = Number(process.argv[2] ?? 300_000);
  const nr = makeTrace(nrEvents, (text) => texts.push(new TextEncoder().encode(text)), isRecorded);
  const chunks = texts.flatMap(inChunks);
  process.stdout.write(`written trace, ${nr.all} events, ${nr.maps} of them map and unmap (bench/make-trace.js)\n`);
  for (const [mapFlush, unmapFlush] of policies) {
    const found = best(chunks, mapFlush, unmapFlush, 16);
    const { commands } = found.result;
    report(
      `${mapFlush} ${unmapFlush}`,
      found,
      nr.maps,
      (rate) => `(${rate(nr.all)} M events of all kinds/s; ${commands.page} page, ${commands.domain} domain commands)`,
    );
  }
}

written(false, [
  ['sync-map', 'strict'],
  ['sync-map', 'lazy'],
  ['none', 'strict'],
]);
written(true, [['sync-map', 'strict']]);

for (const run of ['intel-cmon-strict-small-6.1', 'intel-cmon-strict-small-6.12']) {
  const text = gunzipSync(readFileSync(new URL(`../traces/${run}/trace.txt.gz`, import.meta.url)));
  const chunks = inChunks(text);
  const reader = new FtraceTextReader(new Names(), silent);
  for (const chunk of chunks) reader.push(chunk);
  const { events } = reader.end();
  const found = best(chunks, 'sync-map', 'strict', 120);
  const { counts } = found.plan;
  const nrMaps = counts.map + counts.unmap;
  process.stdout.write(`recording ${run}, ${events} events, ${nrMaps} of them map and unmap\n`);
  report('sync-map strict', found, nrMaps, (rate) => `(${rate(events)} M events of all kinds/s)`);
}
