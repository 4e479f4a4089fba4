/** The shortest list that still fails: parts are left out, halves first, then single elements, until none can go. */

/** @param fails whether a list still shows the failure; is called often */
export function shrink<T>(list: readonly T[], fails: (part: readonly T[]) => boolean): readonly T[] {
  let best = list;
  let size = Math.max(1, best.length >> 1);
  for (;;) {
    let shorter = false;
    // From the end: what comes last depends on what came before.
    for (let start = best.length - size; start > -size; start -= size) {
      const from = Math.max(0, start);
      const part = [...best.slice(0, from), ...best.slice(start + size)];
      if (part.length === best.length || !fails(part)) continue;
      best = part;
      shorter = true;
    }
    if (size > 1) size >>= 1;
    else if (!shorter) return best;
  }
}
