import * as z from "zod";

/**
 * People in the administration API and in configurations.
 *
 *   GET    /api/v1/users             → { users: userInfo[] }
 *   POST   /api/v1/users             userRequest → userInfo
 *   PATCH  /api/v1/users/:user       userChange → userInfo    (:user is an id or a login)
 *   POST   /api/v1/users/:user/invite  → invitation
 *   DELETE /api/v1/users/:user/passkeys      every passkey of theirs; they enrol anew by an invitation
 *   GET    /api/v1/network           → networkIdentity, for everybody
 *   GET    /api/v1/session           → sessionInfo: who asks
 */

/** What a person is to the network. */
const MEMBER_ROLES = ["owner", "admin", "auditor", "member"] as const;
export const memberRole = z.enum(MEMBER_ROLES);
export type MemberRole = (typeof MEMBER_ROLES)[number];

/** An address of an identity provider, or a name: what the policy calls a person. */
export const login = z
  .string()
  .max(254)
  .regex(
    /^[a-z0-9](?:[a-z0-9._+-]{0,62}[a-z0-9])?(?:@[a-z0-9.-]{1,189})?$/,
    "must be a name or an e-mail address, in lower case",
  );

export const userRequest = z.strictObject({
  login,
  displayName: z.string().min(1).max(128).optional(),
  role: memberRole.default("member"),
});
export type UserRequest = z.input<typeof userRequest>;

/** What is left out stays. */
export const userChange = z.strictObject({ role: memberRole.optional(), disabled: z.boolean().optional() });
export type UserChange = z.infer<typeof userChange>;

export const userInfo = z.object({
  id: z.string(),
  login: z.string(),
  displayName: z.string(),
  role: memberRole,
  /** The identity provider that vouches for them. */
  issuer: z.string().optional(),
  createdAtMs: z.number(),
  lastSeenAtMs: z.number().optional(),
  disabledAtMs: z.number().optional(),
});
export type UserInfo = z.infer<typeof userInfo>;

/** The link is shown this once. */
export const invitation = z.object({ login: z.string(), url: z.string(), expiresAtMs: z.number() });

/** What a machine has to know before it can speak to the coordinator at all. */
export const networkIdentity = z.object({ publicKey: z.string(), urls: z.array(z.string()) });

export const sessionInfo = z.object({
  /** As the audit log names the caller. */
  name: z.string(),
  user: userInfo.optional(),
  scopes: z.array(z.string()),
});

/** `identity` of the coordinator's configuration. */
export const identityConfig = z.strictObject({
  oidc: z
    .strictObject({
      issuer: z.url({ protocol: /^https$/ }).max(256),
      clientId: z.string().min(1).max(256),
      /** A file with the secret alone, which none but the coordinator's user should read; without it, a public client. */
      clientSecretFile: z.string().startsWith("/").optional(),
      /** What the button says. */
      name: z.string().min(1).max(64).optional(),
      /**
       * Who may sign in: addresses of these domains, members of these groups; when both are given, both must fit. With
       * neither, only people who were added: a provider that serves the whole world would let the whole world in.
       */
      allowedDomains: z.array(z.string().min(1).max(253).toLowerCase()).max(64).optional(),
      allowedGroups: z.array(z.string().min(1).max(256)).max(64).optional(),
      groupsClaim: z.string().min(1).max(64).default("groups"),
      scopes: z.array(z.string().min(1).max(64)).max(16).default(["openid", "email", "profile"]),
      /** Machines are confirmed at the provider itself (RFC 8628): for a coordinator that no browser can reach. */
      deviceFlow: z.boolean().default(false),
    })
    .optional(),
  passkeys: z.boolean().default(true),
});
export type IdentityConfig = z.infer<typeof identityConfig>;
export type OidcConfig = NonNullable<IdentityConfig["oidc"]>;
