/**
 * A command of an AMD-Vi unit as its driver queued it. Linux has no tracepoint for them; a kprobe on __iommu_queue_command_sync
 * (drivers/iommu/amd/iommu.c) that fetches the command's four words does:
 *
 *   p:amdcmd __iommu_queue_command_sync d0=+0(%si):x32 d1=+4(%si):x32 d2=+8(%si):x32 d3=+12(%si):x32
 *
 *   init-1  [001] d..1.  2.478259: amdcmd: (__iommu_queue_command_sync+0x0/0xd0) d0=0x1 d1=0x20000000 d2=0x0 d3=0x0
 *
 * The probe may have another name and more fields. Tools print the address without a symbol; an event is a command when its
 * text begins with an address in brackets and has d0 to d3.
 */
import type { LineScanner } from './scanner.ts';
import { ascii } from './scanner.ts';

/** What stands there instead of a malformed command. */
export const EXPECTED_COMMAND: string = 'a command: (function) d0=0x... d1=0x... d2=0x... d3=0x..., numbers of 32 bits';

const FUNCTION = ascii('iommu_queue_command');
const PREFIX = ascii('0x');
const OPEN = 40;
const CLOSE = 41;
const LETTER_D = 100;
const EQUALS = 61;
const ALL_WORDS = 15;
const MALFORMED = 16;

/**
 * Reads the text at the scanner's position into the first four of `words`.
 * @returns 1 for a command, 0 for another event, -1 for a malformed command
 */
export function parseAmdCommand(line: LineScanner, words: Int32Array): number {
  const { bytes, pos, end } = line;
  if (line.peek() !== OPEN) return 0;
  let close = pos;
  while (close < end && bytes[close] !== CLOSE) close++;
  line.set(bytes, pos, close);
  const isNamed = line.after(FUNCTION);
  let found = 0;
  line.set(bytes, Math.min(close + 1, end), end);
  for (line.blanks(); !line.atEnd; line.blanks()) {
    const at = line.pos;
    const word = bytes[at + 1] - 48;
    if (at + 3 < end && bytes[at] === LETTER_D && word >= 0 && word < 4 && bytes[at + 2] === EQUALS) {
      line.pos = at + 3;
      const value = line.literal(PREFIX) ? line.hex() : line.decimal();
      const isValid = value >= 0 && value < 2 ** 32 && line.boundary() && (found & (1 << word)) === 0;
      found |= isValid ? 1 << word : MALFORMED;
      words[word] = value | 0;
    }
    line.word();
  }
  if (found === ALL_WORDS) return 1;
  return found === 0 && !isNamed ? 0 : -1;
}
