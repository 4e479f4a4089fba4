/** How likely each domain is to be the one that a context (a task, an interrupt level of a CPU) calls next: mostly the last one. */

/** Weight of each call before. */
const FADING = 0.95;
/** Weight of each domain before any call. */
const BEGIN = 0.05;
/** Chance that a context turns to any other device, at once and after a long pause; and the pause that makes half of it, in ns. */
const TURNS = 0.02;
const TURNS_AFTER_PAUSE = 0.5;
const PAUSE_NS = 1e8;
/** Chance that it goes on with the last device whatever came before, at once; and the pause that makes half of it. */
const GOES_ON = 0.8;
const GOES_ON_NS = 1e6;

interface Row {
  /** By domain. */
  readonly weights: number[];
  sum: number;
  last: number;
  lastNs: number;
}

export class Affinity {
  readonly #rows = new Map<number, Row>();

  /** Adds the logarithm of each domain's chance to `into`. @param into one place per domain */
  addTo(into: number[], context: number, timeNs: number): void {
    const row = this.#rows.get(context);
    if (row === undefined) return;
    const nr = into.length;
    const pause = Math.max(0, timeNs - row.lastNs);
    const goesOn = (GOES_ON * GOES_ON_NS) / (pause + GOES_ON_NS);
    const turns = TURNS + (TURNS_AFTER_PAUSE * pause) / (pause + PAUSE_NS);
    for (let domain = 0; domain < nr; domain++) {
      const share =
        ((1 - goesOn) * ((row.weights[domain] ?? 0) + BEGIN)) / (row.sum + BEGIN * nr) +
        (domain === row.last ? goesOn : 0);
      into[domain] += Math.log((1 - turns) * share + turns / nr);
    }
  }

  /** A context called a domain. */
  add(context: number, domain: number, timeNs: number): void {
    let row = this.#rows.get(context);
    if (row === undefined) {
      row = { weights: [], sum: 0, last: domain, lastNs: timeNs };
      this.#rows.set(context, row);
    }
    const { weights } = row;
    row.last = domain;
    row.lastNs = timeNs;
    for (let i = 0; i < weights.length; i++) weights[i] *= FADING;
    while (weights.length <= domain) weights.push(0);
    weights[domain] += 1;
    row.sum = row.sum * FADING + 1;
  }
}
