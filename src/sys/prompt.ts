import * as clack from "@clack/prompts";
import { Failure } from "../kit/failure.js";

/** Questions to the person at the terminal; they are drawn on stderr, so that stdout stays the result's. */
export interface Prompt {
  text(
    question: string,
    options?: { example?: string; check?: (value: string) => string | undefined },
  ): Promise<string>;
  /** Not echoed. */
  secret(question: string): Promise<string>;
  confirm(question: string): Promise<boolean>;
  choose<T extends string>(question: string, choices: readonly { value: T; label: string }[]): Promise<T>;
}

/** A secret on stdin is one line; more than this is not a secret. */
const SECRET_BYTES_MAX = 4_096;

export function terminalPrompt(signal?: AbortSignal): Prompt {
  const shared = { output: process.stderr, ...(signal === undefined ? {} : { signal }) };
  return {
    async text(question, { example, check } = {}) {
      return answered(
        await clack.text({
          ...shared,
          message: question,
          ...(example === undefined ? {} : { placeholder: example }),
          validate: (value) => (value === undefined || value === "" ? "an answer is needed" : check?.(value)),
        }),
      );
    },
    async secret(question) {
      const validate = (value: string | undefined) => (value ? undefined : "an answer is needed");
      return answered(await clack.password({ ...shared, message: question, validate }));
    },
    async confirm(question) {
      return answered(await clack.confirm({ ...shared, message: question, initialValue: false }));
    },
    async choose(question, choices) {
      const options = choices.map(({ value, label }) => ({ value: String(value), label }));
      const value = answered<string>(await clack.select({ ...shared, message: question, options }));
      const choice = choices.find((one) => one.value === value);
      if (choice === undefined) throw new Failure("cancelled", "nothing was chosen");
      return choice.value;
    },
  };
}

function answered<T>(answer: T | typeof clack.CANCEL_SYMBOL): T {
  if (answer === clack.CANCEL_SYMBOL) throw new Failure("cancelled", "cancelled at the question; nothing was changed");
  return answer as T;
}

/** The first line of stdin, for a secret that a program hands over. */
export async function secretFromStdin(): Promise<string> {
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    text += String(chunk);
    if (text.length > SECRET_BYTES_MAX || text.includes("\n")) break;
  }
  const line = text.split(/\r?\n/)[0] ?? "";
  if (line === "" || line.length > SECRET_BYTES_MAX)
    throw new Failure("secret-missing", `expected the secret as one line on stdin, got ${line.length} characters`);
  return line;
}
