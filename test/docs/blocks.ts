/**
 * Fenced code blocks of Markdown, and how an expected output is compared.
 *
 * - ```sh: lines that start with `$ ` are commands (a trailing backslash continues one); the lines below a command, when there
 *   are any, are its output. `...` alone on a line stands for any lines, inside a line for any text.
 * - ```ts: a program that imports the package by its name. A block ```text output right after it is what it prints.
 * - The words after the language: `no-run` (shown, not run), `exit=N` (the code every command of the block ends with).
 */
export interface Block {
  readonly language: string;
  readonly words: readonly string[];
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

export interface Command {
  readonly command: string;
  /** undefined when the document shows none. */
  readonly output: string | undefined;
}

/** The fenced blocks of a document in order. Four or more backticks fence a block that shows fences. */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: { fence: string; info: string; line: number; body: string[] } | undefined;
  for (const [index, line] of markdown.split('\n').entries()) {
    const [, fence = '', info = ''] = /^(`{3,})(.*)$/.exec(line) ?? [];
    if (open === undefined) {
      if (fence !== '') open = { fence, info, line: index + 1, body: [] };
    } else if (fence.length >= open.fence.length && info.trim() === '') {
      const [language = '', ...words] = open.info.trim().split(/\s+/);
      blocks.push({ language, words, text: open.body.join('\n'), line: open.line });
      open = undefined;
    } else {
      open.body.push(line);
    }
  }
  if (open !== undefined) throw new Error(`the code block that opens in line ${open.line} is never closed`);
  return blocks;
}

/** The commands of a shell block, each with the output that the document shows. */
export function commandsOf(text: string): Command[] {
  const commands: { command: string; output: string[] }[] = [];
  let continued = false;
  for (const line of text.split('\n')) {
    const last = commands.at(-1);
    if (continued && last !== undefined) last.command += `\n${line}`;
    else if (line.startsWith('$ ')) commands.push({ command: line.slice(2), output: [] });
    else if (last !== undefined) last.output.push(line);
    else if (line.trim() !== '') throw new Error(`"${line}" stands before the first command; commands start with "$ "`);
    continued = (commands.at(-1)?.output.length === 0 && line.endsWith('\\')) ?? false;
  }
  return commands.map(({ command, output }) => {
    const shown = output.join('\n').trimEnd();
    return { command, output: shown === '' ? undefined : shown };
  });
}

/** Whether a real output is what a document shows. Trailing blanks and blank lines at the end do not count. */
export function matches(real: string, shown: string): boolean {
  const literal = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  const pattern = shown
    .trimEnd()
    .split('\n')
    .map((line) =>
      line.trim() === '...'
        ? String.raw`(?:.*\n)*?`
        : `${line.trimEnd().split('...').map(literal).join('.*')}${String.raw`[ \t]*\n`}`,
    )
    .join('');
  return new RegExp(`^${pattern}$`).test(`${real.trimEnd()}\n`);
}
