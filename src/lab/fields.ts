/** Reads fields out of entries of several 32-bit words. */
import { hex, hexWords } from '../base/index.ts';
import type { Field } from './view.ts';

/** 32-bit words of an entry, lowest address first. */
export type Words = readonly number[];

/** Bits `last`:`first` of an entry, below 2^53. */
export function bitsOf(words: Words, first: number, last: number): number {
  let value = 0;
  for (let bit = last; bit >= first; bit--) value = value * 2 + ((words[bit >> 5] >>> (bit & 31)) & 1);
  return value;
}

export function bitOf(words: Words, bit: number): boolean {
  return ((words[bit >> 5] >>> (bit & 31)) & 1) === 1;
}

/** A single bit, with what it means set and clear. */
export function flag(words: Words, name: string, bit: number, set: string, clear: string): Field {
  const isSet = bitOf(words, bit);
  return { name, bits: String(bit), value: isSet ? '1' : '0', text: isSet ? set : clear };
}

export function numberField(words: Words, name: string, first: number, last: number, text: string): Field {
  return {
    name,
    bits: first === last ? String(first) : `${last}:${first}`,
    value: hex(bitsOf(words, first, last)),
    text,
  };
}

/** Bits 51:12 as a byte address. */
export function addressOf(words: Words, firstWord: number = 0): number {
  return (words[firstWord + 1] & 0xfffff) * 4294967296 + ((words[firstWord] & -4096) >>> 0);
}

/** The address field, bits 51:12 of a quad word. */
export function addressField(words: Words, name: string, text: string, firstWord: number = 0): Field {
  const first = firstWord * 32 + 12;
  return { name, bits: `${first + 39}:${first}`, value: hex(addressOf(words, firstWord)), text };
}

/** 64-bit words for people. */
export function quads(words: Words): string[] {
  const found: string[] = [];
  for (let i = 0; i < words.length; i += 2) found.push(hexWords(words[i], words[i + 1]));
  return found;
}
