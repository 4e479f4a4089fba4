/** Why a trace cannot be read at all. Malformed single events are not errors: they are skipped and counted. */

/**
 * - not-a-trace: the input is something else. truncated: it ends before a part it promises. corrupt: a part contradicts the
 *   format. unsupported: a valid file of a kind this version does not read.
 */
export type TraceErrorCode = 'not-a-trace' | 'truncated' | 'corrupt' | 'unsupported';

/** An unusable trace. `offset` is the byte in the (decompressed) file where it showed, -1 when that has no meaning. */
export class TraceError extends Error {
  readonly code: TraceErrorCode;
  readonly offset: number;
  /** What the format has at that place. */
  readonly expected: string;

  constructor(code: TraceErrorCode, offset: number, expected: string, found: string) {
    super(
      `${code === 'unsupported' ? 'unsupported trace' : `${code} trace`}: expected ${expected}${
        offset >= 0 ? ` at offset ${offset}` : ''
      }, found ${found}`,
    );
    this.name = 'TraceError';
    this.code = code;
    this.offset = offset;
    this.expected = expected;
  }
}
