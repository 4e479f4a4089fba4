/** A text of a link cannot be read. The message says what is wrong, where, and what would be right; it is meant for people. */
export class LabTextError extends Error {
  override readonly name = 'LabTextError';
}
