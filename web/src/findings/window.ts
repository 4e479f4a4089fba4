/** Of a long list the part near one place: reports may have thousands of findings, schedules thousands of steps. */

/** As many items are listed before and after the place. */
const NEAR = 200;

export interface Window<T> {
  /** Index of the first listed item. */
  readonly from: number;
  /** With their indexes. */
  readonly items: readonly (readonly [T, number])[];
}

export function windowOf<T>(list: readonly T[], place: number): Window<T> {
  const from = Math.max(0, place - NEAR);
  return { from, items: list.slice(from, place + NEAR + 1).map((item, i) => [item, from + i] as const) };
}
