/**
 * The one error a person or a program is meant to read.
 *
 * `code` is stable, kebab-case, and what tests and callers compare. `message` says what failed, with which
 * value, and what was expected: lower case, no full stop, never a secret. `advice` is the next command to type.
 */
export class Failure extends Error {
  readonly code: string;
  readonly advice: string | undefined;

  constructor(code: string, message: string, options: { advice?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "Failure";
    this.code = code;
    this.advice = options.advice;
  }

  /** The shape printed under `--json`. */
  toJSON(): { code: string; message: string; advice?: string } {
    return { code: this.code, message: this.message, ...(this.advice === undefined ? {} : { advice: this.advice }) };
  }
}

/** Whatever was thrown, as a Failure: an unforeseen error keeps its text and is coded `internal`. */
export function asFailure(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new Failure("internal", message, { cause: thrown });
}
