import { describe, expect, test } from 'vitest';
import { UnmapMode } from '../../src/replay/unmap-mode.ts';

/** Feeds unmaps a millisecond apart, events 0, 1, ...: `s` reused at once, `l` passed over, capitals certain, `.` nothing seen; `_` a pause. */
function modeOf(history: string): UnmapMode {
  const mode = new UnmapMode();
  let timeNs = 0;
  let event = 0;
  for (const what of history) {
    timeNs += what === '_' ? 1e10 : 1e6;
    if (what === '_') continue;
    mode.unmapped(event, timeNs);
    const isCertain = what !== what.toLowerCase();
    if ('sS'.includes(what)) mode.reused(event, isCertain);
    if ('lL'.includes(what)) mode.passedOver(event, isCertain);
    event += 1;
  }
  return mode;
}

describe('UnmapMode', () => {
  test.each([
    ['nothing seen', '....', NaN],
    ['as much for one as for the other', 'SL', NaN],
    ['strict throughout', 'SSSS', Infinity],
    ['lazy from the first unmap on', '..LLL', 0],
    ['one slip in a lazy history changes nothing', 'LLSLLLL', 0],
    ['nor does one in front', 'SLLLLL', 0],
    ['one slip in a strict history changes nothing', 'SSSSLSS', Infinity],
    ['strict, then lazy from the first one seen', 'SSSSLLLL', 4],
    ['what is not seen is lazy from the longest pause on', 'SSSS..._..LLLL', 7],
    ['the pause after the first lazy one is too late', 'SSSSL_.LLL', 4],
    ['a lazy domain does not become strict', 'LLLLLLLLSSSS', 0],
    ['doubtful ones do not make a strict beginning', 'sssLLLL', 0],
    ['unless there are many', 'sssssssLLLLLLLL', 7],
  ])('%s: %s', (_, history, from) => {
    expect(modeOf(history).lazyFrom).toBe(from);
  });

  test('chances add up to one', () => {
    for (const history of ['', 'S', 'SSSSSSS', 'LLLLLL', 'SLSLSL']) {
      const { logStrict, logLazy } = modeOf(history);
      expect(Math.exp(logStrict) + Math.exp(logLazy)).toBeCloseTo(1, 12);
    }
    expect(modeOf('SSSS').logStrict).toBeGreaterThan(modeOf('LLLL').logStrict);
  });
});
