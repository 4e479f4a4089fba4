/**
 * The file that the page was opened with. `iommukit ui FILE` serves it beside the page and names it in the address:
 * `open=open/TOKEN/NAME`. Only such a path of the page's own server is fetched: a link cannot make the page ask for anything else.
 */

/** Whether a link names a file of `iommukit ui`. */
export function hasOpenedFile(params: URLSearchParams): boolean {
  return params.has('open');
}

/** The name that a link gives, for messages; '' when it gives none. */
export function openedName(params: URLSearchParams): string {
  return partsOf(params)?.name ?? '';
}

/** Fetches it. @throws Error with a message for people */
export async function openedFile(params: URLSearchParams, signal?: AbortSignal): Promise<File> {
  const parts = partsOf(params);
  if (parts === null) {
    throw new Error(
      `This link opens '${(params.get('open') ?? '').slice(0, 80)}', which is no file of iommukit ui (open/TOKEN/NAME).`,
    );
  }
  const { token, name } = parts;
  const path = new URL(`open/${token}/${encodeURIComponent(name)}`, document.baseURI);
  let blob: Blob;
  try {
    const answer = await fetch(path, { mode: 'same-origin', redirect: 'error', signal: signal ?? null });
    if (answer.status === 404) {
      throw new Error(`${name} is not served here any more. Start iommukit ui with it again, or drop the file here.`);
    }
    if (!answer.ok) throw new Error(`${name} could not be fetched: the server said ${answer.status}.`);
    blob = await answer.blob();
  } catch (error) {
    // What fetch itself throws says nothing to people.
    if (!(error instanceof TypeError)) throw error;
    throw new Error(
      `${name} broke off, or its server has ended. Start iommukit ui with it again, or drop the file here.`,
      {
        cause: error,
      },
    );
  }
  return new File([blob], name);
}

function partsOf(params: URLSearchParams): { readonly token: string; readonly name: string } | null {
  const [, token, name] = /^open\/([\w-]{22})\/([^/\\]+)$/.exec(params.get('open') ?? '') ?? [];
  return token === undefined || name === undefined || name === '..' || name === '.' ? null : { token, name };
}
