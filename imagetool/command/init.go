package command

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

type initOptions struct {
	where
	title   string
	expires time.Duration
	offline bool
	useKeys bool
	plain   bool // --no-passphrase
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init [--to DIR|URL|s3://BUCKET/PREFIX]",
		Short: "Make signing keys and publish an empty catalog",
		Long: `Init makes signing keys, publishes the first root and an empty catalog, and
remembers the store for the commands after it. On a terminal it asks for the
store, and for what else it needs, if --to does not name one.

The keys are root, which can replace all others, and targets, which signs what
there is to boot. On a server, the server's own key signs snapshot and timestamp,
which say what is the newest; with --offline, and in a directory, there are keys
of yours for these, too, and ` + "`imagetool refresh`" + ` has to run from time to time.

The keys are encrypted with a passphrase, which init asks for on the terminal
unless $INETBOOT_PASSPHRASE or --passphrase-file has it. --no-passphrase leaves
them unencrypted: whoever can read the files can then sign.

Keep the key folder: without the root key, media cannot be told of new keys. If
the folder has keys already, for instance because another store uses them, init
refuses to replace them; --use-keys goes on with them.`,
		Example: `  imagetool init
  imagetool init --to /srv/inetboot
  imagetool init --to s3://bucket/prefix --s3-endpoint https://minio.example.org:9000 --s3-region eu-central-1
  imagetool init --to https://boot.example.org/ --token-file /root/token --title "Example Inc."`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&o.useKeys, "use-keys", false, "use the keys that are in the key folder")
	c.Flags().BoolVar(&o.plain, "no-passphrase", false, "leave the new keys unencrypted")
	c.Flags().BoolVar(&o.offline, "offline", false, "sign snapshot and timestamp with keys of your own, not the server's")
	o.flags(c)
	c.Flags().StringVar(&o.title, "title", "InetBoot", "title of the menu")
	c.Flags().DurationVar(&o.expires, "expires", publish.DefaultLifetime, "how long what these keys sign counts; the root counts for 5 years, what the server signs for a week")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.runInit(c.Context(), &o, c.Flags().Changed("title"))
	}
	return c
}

// runInit makes a store. titled tells that its title was given.
func (a *app) runInit(ctx context.Context, o *initOptions, titled bool) error {
	if err := o.ask(ctx, a.questions(), titled); err != nil {
		return err
	}
	if o.to == "" {
		return &usageError{errors.New("which store? Name a directory, a URL or s3://bucket/prefix with --to")}
	}
	if o.expires <= 0 {
		return &usageError{errors.New("--expires must be more than 0")}
	}
	if o.keys == "" {
		var err error
		if o.keys, err = a.defaultKeys(); err != nil {
			return err
		}
	}
	// Absolute, because later commands run elsewhere.
	for _, p := range []*string{&o.keys, &o.tokenFile} {
		if *p != "" {
			abs, err := filepath.Abs(*p)
			if err != nil {
				return err
			}
			*p = abs
		}
	}
	if store.IsDir(o.to) {
		abs, err := filepath.Abs(o.to)
		if err != nil {
			return err
		}
		o.to = abs
	}
	st, err := o.open(true)
	if err != nil {
		return err
	}
	if bucket, ok := st.(*store.S3); ok {
		if err := bucket.CheckConditions(ctx); err != nil {
			return err
		}
	}
	in := push.InitOptions{Title: o.title, Lifetime: o.expires}
	if server, ok := st.(*store.HTTP); ok && !o.offline {
		if in.Online, err = server.OnlineKey(ctx); err != nil {
			return err
		}
	}
	k, err := a.initKeys(ctx, o, in)
	if err != nil {
		return err
	}
	if err := push.Init(ctx, st, k, in); err != nil {
		if !o.useKeys {
			// Nothing has been signed for anybody with the new keys.
			err = errors.Join(err, k.Remove())
		}
		return err
	}
	conf := &config{To: o.to, TokenFile: o.tokenFile, Keys: o.keys}
	if o.token != "" {
		name, err := a.configFile()
		if err != nil {
			return err
		}
		conf.TokenFile = filepath.Join(filepath.Dir(name), "token")
		if err := writePrivate(conf.TokenFile, []byte(o.token+"\n")); err != nil {
			return err
		}
	}
	name, err := a.saveConfig(conf)
	if err != nil {
		return err
	}
	ids := make(map[string]string)
	for _, key := range k.Keys() {
		if key.Name != "" {
			ids[key.Name] = key.ID()
		}
	}
	if a.json {
		return a.writeJSON(map[string]any{"to": o.to, "keys": o.keys, "key_ids": ids, "root": rootFile(o.keys), "online": in.Online != nil, "config": name, "catalog": 1})
	}
	a.say("Store:    %s (catalog version 1)", st)
	a.say("Keys:     %s in %s; keep a copy in a safe place", strings.Join(slices.Sorted(maps.Keys(ids)), ", "), o.keys)
	a.say("Settings: %s", name)
	a.say("")
	a.say("Next: imagetool push DIRECTORY-OR-TARBALL --name debian --version 12")
	a.say("      imagetool media --iso inetboot.iso --url URL-OF-THE-STORE -o my.iso")
	return nil
}

// initKeys makes the keys of a new catalog, or takes those that are there.
func (a *app) initKeys(ctx context.Context, o *initOptions, in push.InitOptions) (*keys.Folder, error) {
	if o.useKeys {
		if o.plain {
			return nil, &usageError{errors.New("--use-keys makes no keys: imagetool key passphrase --no-passphrase takes away the passphrase of one that is there")}
		}
		return a.loadKeys(ctx, &o.where)
	}
	r, err := a.ring(&o.where)
	if err != nil {
		return nil, err
	}
	return keys.Generate(ctx, r, o.plain, push.InitKeys(in)...)
}
