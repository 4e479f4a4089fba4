/** A path as the user gave it. */
import { InvalidArgumentError } from 'commander';

/** An unset variable of a script makes an empty path. */
export function pathOf(text: string): string {
  if (text === '') throw new InvalidArgumentError('The path is empty.');
  return text;
}
