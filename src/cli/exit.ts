/** Exit codes, the same for every command. A finding never shares a code with a crash. */
export const EXIT_OK = 0;
/** It ran and found something: a contract broken, a prediction that differs. */
export const EXIT_FINDING = 1;
/** Wrong usage, or an input that cannot be used. */
export const EXIT_USAGE = 2;
/** It ran and cannot tell: the input does not show enough, or a bound was reached before everything was tried. */
export const EXIT_INCONCLUSIVE = 3;
/** A bug in iommukit. */
export const EXIT_BUG = 70;
/** Interrupted; what was known was printed. */
export const EXIT_INTERRUPTED = 130;

/** Options that do not go together, found only when the input is known. The message is one line. */
export class UsageError extends Error {}

/** The table that `iommukit help` shows. */
export const EXIT_CODES_HELP = `
Exit codes:
  0    ran, and everything that was asked to hold held
  1    ran, with a finding: a contract that was broken, a comparison that differs
  2    wrong usage, or an input that cannot be used
  3    inconclusive: the input does not show enough for a verdict, or a bound was reached
  70   a bug in iommukit
  130  interrupted; what was known by then was printed
`;
