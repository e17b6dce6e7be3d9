import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";

/** RFC 9457 problem details as the Failure they were made from. */
export function problemFailure(status: number, body: string): Failure {
  const problem = tryJson(body);
  const field = (name: string): string | undefined => {
    const value: unknown = typeof problem === "object" && problem !== null ? Reflect.get(problem, name) : undefined;
    return typeof value === "string" ? value : undefined;
  };
  const message = field("detail") ?? `the coordinator answered HTTP ${status}`;
  return new Failure(field("code") ?? "coordinator-strange", message, { advice: field("advice") });
}
