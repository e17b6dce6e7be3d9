import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { login, type OidcConfig } from "../../wire/identity.js";
import { parseWith } from "../../wire/schema.js";

/** Whom an identity provider vouches for. */
export type Vouched = {
  readonly issuer: string;
  readonly subject: string;
  readonly login: string;
  readonly displayName: string;
  /** Whether the configuration lets them in without having been added before. */
  readonly mayJoin: boolean;
};

const claimsSchema = z.object({
  iss: z.string().max(256),
  sub: z.string().min(1).max(255),
  email: z.string().max(254).optional(),
  email_verified: z.boolean().optional(),
  name: z.string().max(256).optional(),
});
const groupsSchema = z.array(z.string()).max(4_096);
const NAME_CHARACTERS_MAX = 128;

/** The claims of a verified ID token as a person, held to the configuration's limits. */
export function vouchedBy(
  config: Pick<OidcConfig, "allowedDomains" | "allowedGroups" | "groupsClaim">,
  value: unknown,
): Vouched {
  const claims = parseWith(claimsSchema, value, "what the identity provider says of this person", "sign-in-refused");
  const { iss, sub, email, email_verified, name } = claims;
  // Anybody can give anybody's address to some providers: only what the provider has proven counts.
  if (email === undefined || email_verified !== true)
    throw new Failure("sign-in-refused", "the identity provider has not verified an e-mail address of this person", {
      advice: "verify the address there, then sign in again",
    });
  const address = parseWith(login, email.toLowerCase(), "the e-mail address", "sign-in-refused");
  const { allowedDomains, allowedGroups, groupsClaim } = config;
  const groups = groupsSchema.safeParse(Reflect.get(Object(value), groupsClaim)).data ?? [];
  const fits =
    (allowedDomains === undefined || allowedDomains.includes(address.slice(address.lastIndexOf("@") + 1))) &&
    (allowedGroups === undefined || allowedGroups.some((group) => groups.includes(group)));
  const isLimited = allowedDomains !== undefined || allowedGroups !== undefined;
  if (isLimited && !fits)
    throw new Failure("sign-in-refused", `${address} is not of a domain or group that may sign in here`);
  const displayName = (name?.trim() || address).slice(0, NAME_CHARACTERS_MAX);
  return { issuer: iss, subject: sub, login: address, displayName, mayJoin: isLimited };
}
