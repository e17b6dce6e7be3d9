import { formatReport } from "./report.js";

/** The part of node:test's events that is told. */
type TestEvent = {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly nesting?: number;
    readonly message?: string;
    readonly skip?: string | boolean;
    readonly details?: { readonly duration_ms?: number; readonly type?: string; readonly error?: unknown };
  };
};

/** A reporter for node:test: one line per finished test, for the runner outside the machine to repeat. */
export default async function* lineReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const under: string[] = [];
  for await (const { type, data } of source) {
    const { name = "", nesting = 0, details } = data;
    if (type === "test:start") under.splice(nesting, under.length, name);
    if (type !== "test:pass" && type !== "test:fail") continue;
    const passed = type === "test:pass";
    // A describe() says nothing by itself, unless what it prepares fails.
    if (passed && details?.type === "suite") continue;
    const cause = details?.error instanceof Error ? (details.error.cause ?? details.error) : details?.error;
    yield formatReport({
      name: [...under.slice(0, nesting), name].join(": "),
      passed,
      milliseconds: Math.round(details?.duration_ms ?? 0),
      ...(typeof data.skip === "string" ? { skipped: data.skip } : {}),
      ...(passed ? {} : { error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) }),
    });
  }
}
