/** As much of HCL as an export is written in: blocks, attributes, texts, numbers, lists, references. */
export type HclBody = { readonly attributes: Map<string, unknown>; readonly blocks: HclBlock[] };
export type HclBlock = HclBody & { readonly head: readonly string[] };

export function parseHcl(text: string): HclBody {
  const tokens = text.replace(/^#.*$/gm, "").match(/"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_.-]*|\d+|[{}=,[\]]/g);
  const queue = [...(tokens ?? [])];
  const body = bodyOf(queue);
  if (queue.length > 0) throw new Error(`expected the end, got ${queue.slice(0, 5).join(" ")}`);
  return body;
}

/** Blocks of one kind, by their first word. */
export function blocksOf(body: HclBody, kind: string): HclBlock[] {
  return body.blocks.filter(({ head }) => head[0] === kind);
}

function bodyOf(queue: string[]): HclBody {
  const attributes = new Map<string, unknown>();
  const blocks: HclBlock[] = [];
  while (queue.length > 0 && queue[0] !== "}") {
    const word = next(queue);
    if (queue[0] === "=") {
      next(queue);
      if (attributes.has(word)) throw new Error(`${word} is set twice`);
      attributes.set(word, valueIn(queue));
      continue;
    }
    const head = [word];
    while (queue[0] !== "{") head.push(String(JSON.parse(next(queue))));
    next(queue);
    const inner = bodyOf(queue);
    if (next(queue) !== "}") throw new Error("a block does not end");
    blocks.push({ head, ...inner });
  }
  return { attributes, blocks };
}

function valueIn(queue: string[]): unknown {
  const token = next(queue);
  if (token.startsWith('"')) return String(JSON.parse(token)).replace(/([$%])\1\{/g, "$1{");
  if (/^\d+$/.test(token)) return Number(token);
  if (token === "true" || token === "false") return token === "true";
  if (token === "{") {
    const { attributes } = bodyOf(queue);
    next(queue);
    return Object.fromEntries(attributes);
  }
  if (token !== "[") return { reference: token };
  const values: unknown[] = [];
  while (queue[0] !== "]") {
    values.push(valueIn(queue));
    if (queue[0] === ",") next(queue);
  }
  next(queue);
  return values;
}

function next(queue: string[]): string {
  const token = queue.shift();
  if (token === undefined) throw new Error("the text ends in the middle");
  return token;
}
