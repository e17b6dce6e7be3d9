/**
 * A small WebAssembly assembler: expressions are functions that return code, so that a round, a block or a transpose
 * is an ordinary TypeScript function which writes it out. The module is assembled when the engine starts: there is
 * no compiler among the dependencies and no binary in the repository. Numbers in the comments are sections of the
 * WebAssembly core specification 2.0.
 */
type Bytes = readonly number[];
/** Bytes, nested: a piece that stands in several places is made once, and all is laid flat at the end. */
export type Code = readonly (number | Code)[];
export type ValueType = 0x7f | 0x7e | 0x7b;
export const I32: ValueType = 0x7f;
export const I64: ValueType = 0x7e;
export const V128: ValueType = 0x7b;

/** A variable of a function. As an operand it is its value. */
export class Local {
  readonly value: Code;
  readonly type: ValueType;
  readonly #index: Code;

  constructor(index: number, type: ValueType) {
    this.#index = unsigned(index);
    this.value = [0x20, this.#index];
    this.type = type;
  }

  set(value: Operand): Code {
    return [code(value), 0x21, this.#index];
  }
}

export type Operand = Code | Local;

const operation =
  (...opcode: readonly number[]) =>
  (...operands: readonly Operand[]): Code => [operands.map(code), opcode];

/** Loads and stores take an address and a constant distance from it; none relies on alignment. */
const access =
  (...opcode: readonly number[]) =>
  (address: Operand, distance = 0, stored: Operand = []): Code => [
    code(address),
    code(stored),
    opcode,
    0,
    unsigned(distance),
  ];

const vector = (opcode: number) => operation(0xfd, ...unsigned(opcode));

export const i32 = {
  const: (value: number): Code => [0x41, signed(BigInt(value | 0))],
  eqz: operation(0x45),
  eq: operation(0x46),
  lessUnsigned: operation(0x49),
  add: operation(0x6a),
  sub: operation(0x6b),
  and: operation(0x71),
  or: operation(0x72),
  shl: operation(0x74),
  shrUnsigned: operation(0x76),
  ofI64: operation(0xa7),
  load8: access(0x2d),
  load16: access(0x2f),
};

export const i64 = {
  const: (value: bigint): Code => [0x42, signed(value)],
  add: operation(0x7c),
  sub: operation(0x7d),
  mul: operation(0x7e),
  and: operation(0x83),
  or: operation(0x84),
  shrUnsigned: operation(0x88),
  ofI32: operation(0xad),
  load: access(0x29),
  load32: access(0x35),
  store: access(0x37),
  store32: access(0x3e),
};

export const v128 = {
  load: access(0xfd, 0),
  load32Splat: access(0xfd, 9),
  store: access(0xfd, 11),
  const: (bytes: Bytes): Code => [0xfd, 12, bytes],
  shuffle: (lanes: Bytes, a: Operand, b: Operand): Code => [code(a), code(b), 0xfd, 13, lanes],
  swizzle: vector(14),
  splat32: vector(17),
  lane32: (a: Operand, lane: number): Code => [code(a), 0xfd, 27, lane],
  or: vector(80),
  xor: vector(81),
  anyTrue: vector(83),
  shl32: vector(171),
  shrUnsigned32: vector(173),
  add32: vector(174),
  /** Products of neighbouring signed 16-bit lanes, added in pairs. */
  dot16: vector(186),
};

const SELECT = 0x1b;
const LOOP = [0x03, 0x40];
const IF = [0x04, 0x40];
const ELSE = 0x05;
const END = 0x0b;
const BRANCH_IF = [0x0d, 0];

/** The smaller of two unsigned numbers. */
export const lesser = (a: Operand, b: Operand): Code => [code(a), code(b), i32.lessUnsigned(a, b), SELECT];

export const when = (condition: Operand, then: Code, otherwise: Code = []): Code => [
  code(condition),
  IF,
  then,
  otherwise.length === 0 ? [] : [ELSE, otherwise],
  END,
];

/** The body, and again as long as the condition after it holds. */
export const repeatWhile = (condition: Operand, body: Code): Code => [LOOP, body, code(condition), BRANCH_IF, END];

/** The body as long as the condition before it holds. */
export const loopWhile = (condition: Operand, body: Code): Code => when(condition, repeatWhile(condition, body));

export const fill = (at: Operand, value: Operand, length: Operand): Code => [
  code(at),
  code(value),
  code(length),
  [0xfc, 11, 0],
];

/** One exported function: its parameters come first, variables are added while its body is written. */
export class Routine {
  readonly #parameters: readonly ValueType[];
  readonly #result: readonly ValueType[];
  readonly #locals: Local[];
  #body: Code = [];

  constructor(parameters: readonly ValueType[], result?: ValueType) {
    this.#parameters = parameters;
    this.#result = result === undefined ? [] : [result];
    this.#locals = parameters.map((type, index) => new Local(index, type));
  }

  parameter(index: number): Local {
    const local = this.#locals[index];
    if (local === undefined || index >= this.#parameters.length) throw new Error(`there is no parameter ${index}`);
    return local;
  }

  local(type: ValueType): Local {
    const local = new Local(this.#locals.length, type);
    this.#locals.push(local);
    return local;
  }

  locals(type: ValueType, count: number): Local[] {
    return Array.from({ length: count }, () => this.local(type));
  }

  write(body: Code): this {
    this.#body = body;
    return this;
  }

  get signature(): Code {
    return [0x60, list(this.#parameters.map((type) => [type])), list(this.#result.map((type) => [type]))];
  }

  get code(): Code {
    const own = this.#locals.slice(this.#parameters.length).map(({ type }) => [1, type]);
    return sized([list(own), this.#body, END]);
  }
}

/** A module (§5.5) that imports `env.memory` and exports the routines by name. */
export function assemble(routines: Readonly<Record<string, Routine>>): Uint8Array {
  const names = Object.keys(routines);
  const all = Object.values(routines);
  const section = (id: number, parts: readonly Code[]): Code => [id, sized(list(parts))];
  const types = all.map(({ signature }) => signature);
  const memory = [name("env"), name("memory"), 2, 0, 1];
  const functions = all.map((_, index) => unsigned(index));
  const exported = names.map((text, index) => [name(text), 0, unsigned(index)]);
  const bodies = all.map(({ code }) => code);
  return Uint8Array.from(
    flat([
      [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      section(1, types),
      section(2, [memory]),
      section(3, functions),
      section(7, exported),
      section(10, bodies),
    ]),
  );
}

function code(operand: Operand): Code {
  return operand instanceof Local ? operand.value : operand;
}

function flat(code: Code, into: number[] = []): Bytes {
  for (const part of code)
    if (typeof part === "number") into.push(part);
    else flat(part, into);
  return into;
}

function list(parts: readonly Code[]): Code {
  return [unsigned(parts.length), parts];
}

function sized(code: Code): Code {
  const bytes = flat(code);
  return [unsigned(bytes.length), bytes];
}

function name(text: string): Code {
  return sized([...text].map((letter) => letter.charCodeAt(0)));
}

/** LEB128 (§5.2.2). */
function unsigned(value: number): Bytes {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: bigint): Bytes {
  const low = Number(value & 0x7fn);
  const rest = value >> 7n;
  return (rest === 0n && low < 0x40) || (rest === -1n && low >= 0x40) ? [low] : [low | 0x80, ...signed(rest)];
}
