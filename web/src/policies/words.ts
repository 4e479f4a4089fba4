/** Numbers and short words of the policies view. */

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** @param seconds Infinity for one without an end */
export function duration(seconds: number): string {
  if (seconds === Infinity) return 'to the end';
  if (seconds >= 1) return `${seconds.toFixed(3)} s`;
  if (seconds >= 1e-3) return `${(seconds * 1e3).toFixed(1)} ms`;
  return `${(seconds * 1e6).toFixed(1)} µs`;
}

/** `1 map`, `2 maps`. */
export function counted(value: number, one: string, many: string = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
