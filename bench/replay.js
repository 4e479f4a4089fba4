/**
 * A whole replay: parse, group, plan, and play under one policy. Events are map and unmap lines. `npm run build` first.
 *
 *   node bench/replay.js [EVENTS]
 */
import { Grouper, Player, planCalls } from '../dist/replay/index.js';
import { FtraceTextReader, Names } from '../dist/trace/index.js';
import { makeTrace } from './make-trace.js';

const wanted = Number(process.argv[2] ?? 1_000_000);
const chunks = [];
const nrEvents = makeTrace(wanted, (text) => chunks.push(new TextEncoder().encode(text)));
const silent = { event() {}, skipped() {} };

function timed(work) {
  const start = performance.now();
  const result = work();
  return [performance.now() - start, result];
}

function parse(sink, names) {
  const reader = new FtraceTextReader(names, sink);
  for (const chunk of chunks) reader.push(chunk);
  return reader.end();
}

function round(mapFlush, unmapFlush) {
  const [parseMs] = timed(() => parse(silent, new Names()));
  const grouper = new Grouper(new Names());
  const [bothMs] = timed(() => {
    const names = new Names();
    parse(grouper, names);
    grouper.finish();
  });
  const [planMs, plan] = timed(() => planCalls(grouper));
  const player = new Player(plan, { preset: 'linux-6.12', mapFlush, unmapFlush, cachingMode: true });
  const [playMs] = timed(() => {
    while (player.step(1e6));
  });
  return {
    parseMs,
    groupMs: bothMs - parseMs,
    planMs,
    playMs,
    totalMs: bothMs + planMs + playMs,
    result: player.result(),
  };
}

for (const [mapFlush, unmapFlush] of [
  ['sync-map', 'strict'],
  ['sync-map', 'lazy'],
  ['none', 'strict'],
]) {
  let best;
  for (let i = 0; i < 5; i++) {
    const one = round(mapFlush, unmapFlush);
    if (best === undefined || one.totalMs < best.totalMs) best = one;
  }
  const ns = (ms) => ((ms * 1e6) / nrEvents).toFixed(0).padStart(5);
  process.stdout.write(
    `${mapFlush.padEnd(9)} ${unmapFlush.padEnd(6)} ns/event: parse${ns(best.parseMs)} group${ns(best.groupMs)} plan${ns(best.planMs)} ` +
      `play${ns(best.playMs)}  total${ns(best.totalMs)}  ${(nrEvents / best.totalMs / 1e3).toFixed(2)} M events/s  ` +
      `(${best.result.commands.page} page, ${best.result.commands.domain} domain commands)\n`,
  );
}
