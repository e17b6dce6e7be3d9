import { Agent, request } from "node:https";

/** As much of a browser as sign-in needs: cookies, redirects by hand, and the Origin of its pages. */
export type Page = {
  readonly status: number;
  readonly text: string;
  readonly location: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
};
export type Sent = {
  readonly body?: string;
  readonly type?: string;
  readonly origin?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
};

let browsers = 0;

export class Browser {
  /** Each has its own, so that one's mistakes lock out nobody else. */
  readonly #address = `127.1.0.${(browsers++ % 250) + 1}`;
  /** By host and name. */
  readonly cookies = new Map<string, string>();
  readonly #agent = new Agent({ rejectUnauthorized: false, keepAlive: false }); // the test's own certificates

  async go(method: string, url: string, sent: Sent = {}): Promise<Page> {
    const at = new URL(url);
    const cookie = [...this.cookies].flatMap(([key, value]) => {
      const [host, name] = key.split(" ");
      return host === at.host ? [`${name}=${value}`] : [];
    });
    const origin = sent.origin === undefined ? at.origin : sent.origin;
    const headers = {
      ...(cookie.length === 0 ? {} : { cookie: cookie.join("; ") }),
      ...(method === "GET" || origin === null ? {} : { origin }),
      ...(sent.type === undefined ? {} : { "content-type": sent.type }),
      ...sent.headers,
    };
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          agent: this.#agent,
          method,
          localAddress: this.#address,
          host: "127.0.0.1",
          servername: at.hostname,
          port: at.port,
          path: at.pathname + at.search,
          headers: { host: at.host, ...headers },
        },
        (incoming) => {
          for (const line of incoming.headers["set-cookie"] ?? []) this.#keep(at.host, line);
          let text = "";
          incoming.setEncoding("utf8").on("data", (chunk: string) => {
            text += chunk;
          });
          incoming.on("end", () => {
            const location =
              incoming.headers.location === undefined ? "" : new URL(incoming.headers.location, url).href;
            resolve({ status: incoming.statusCode ?? 0, text, location, headers: incoming.headers });
          });
        },
      );
      outgoing.on("error", reject);
      outgoing.end(sent.body);
    });
  }

  get(url: string): Promise<Page> {
    return this.go("GET", url);
  }

  /** Follows redirects until there are none, or one leads to `stop`. */
  async follow(url: string, stop = "\0"): Promise<Page & { readonly url: string }> {
    let at = url;
    for (let hops = 0; hops < 16; hops++) {
      const page = await this.get(at);
      if (page.location === "" || page.location.startsWith(stop)) return { ...page, url: at };
      at = page.location;
    }
    throw new Error(`redirected for ever at ${at}`);
  }

  form(url: string, fields: Readonly<Record<string, string>>, sent: Sent = {}): Promise<Page> {
    const body = new URLSearchParams(fields).toString();
    return this.go("POST", url, { ...sent, body, type: "application/x-www-form-urlencoded" });
  }

  json(url: string, value: unknown, sent: Sent = {}): Promise<Page> {
    return this.go("POST", url, { ...sent, body: JSON.stringify(value), type: "application/json" });
  }

  #keep(host: string, line: string): void {
    const [pair = ""] = line.split(";");
    const at = pair.indexOf("=");
    const key = `${host} ${pair.slice(0, at)}`;
    if (/max-age=0/i.test(line) || pair.slice(at + 1) === "") this.cookies.delete(key);
    else this.cookies.set(key, pair.slice(at + 1));
  }
}

/** The hidden field of a page's form. */
export function fieldOf(page: Page, name: string): string {
  const found = new RegExp(`name="${name}" value="([^"]*)"`).exec(page.text)?.[1];
  if (found === undefined) throw new Error(`no field ${name} in ${page.status}: ${page.text}`);
  return found;
}
