/** A file within a link: deflated, as base64url. */
import { FileProblem, MOST_TEXT } from './reports.ts';

/** Longer files are not put into links: chat programs and mail cut them. */
export const MOST_PACKED = 16 * 1024;

async function through(
  bytes: Uint8Array<ArrayBuffer>,
  stream: CompressionStream | DecompressionStream,
  most: number,
): Promise<Uint8Array> {
  const parts: BlobPart[] = [];
  let nr = 0;
  const limit = new WritableStream<Uint8Array<ArrayBuffer>>({
    write(part) {
      nr += part.length;
      if (nr > most) throw new FileProblem(`What the link holds is longer than ${most} bytes.`);
      parts.push(part);
    },
  });
  await new Blob([bytes]).stream().pipeThrough(stream).pipeTo(limit);
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** @returns null when it is too long for a link */
export async function packed(text: string): Promise<string | null> {
  if (text.length > MOST_TEXT) return null;
  const bytes = await through(new TextEncoder().encode(text), new CompressionStream('deflate-raw'), MOST_TEXT);
  if (bytes.length > (MOST_PACKED * 3) / 4) return null;
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

/** @throws FileProblem for a link that was cut or changed */
export async function unpacked(text: string): Promise<string> {
  try {
    const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
    const plain = await through(bytes, new DecompressionStream('deflate-raw'), MOST_TEXT);
    return new TextDecoder('utf-8', { fatal: true }).decode(plain);
  } catch (error) {
    if (error instanceof FileProblem) throw error;
    throw new FileProblem(
      'The file in this link cannot be read: the link was cut or changed. Ask for it again, or open the file.',
    );
  }
}
