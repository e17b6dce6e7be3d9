/** An answer that is not 200: Proxmox VE puts the text into the HTTP reason phrase (pve-api, "HTTP protocol"). */
export class Refusal extends Error {
  readonly status: number;
  readonly errors: Readonly<Record<string, string>> | undefined;
  /** What the body holds: the JSON every API handler sends, the bare text of the server level, or nothing at all. */
  readonly body: "json" | "text" | "empty";

  constructor(
    status: number,
    reason: string,
    options: { errors?: Readonly<Record<string, string>>; body?: "json" | "text" | "empty" } = {},
  ) {
    super(reason);
    this.status = status;
    this.errors = options.errors;
    this.body = options.body ?? "json";
  }
}

/** What a Perl `die` becomes: any trouble that is neither a bad parameter nor a missing privilege. */
export const failed = (text: string): Refusal => new Refusal(500, text);

export const badParameters = (errors: Readonly<Record<string, string>>): Refusal =>
  new Refusal(400, "Parameter verification failed.", { errors });

/** Without a detail: the refusals that name neither path nor privilege. */
export const forbidden = (detail?: string): Refusal =>
  new Refusal(403, detail === undefined ? "Permission check failed" : `Permission check failed (${detail})`);

/** 401 carries no body, except for a failed login. */
export const unauthorized = (reason: string, body: "json" | "empty" = "empty"): Refusal =>
  new Refusal(401, reason, { body });
