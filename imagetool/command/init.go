package command

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

type initOptions struct {
	where
	title   string
	expires time.Duration
	useKey  bool
	plain   bool // --no-passphrase
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init --to DIR|URL|s3://BUCKET/PREFIX",
		Short: "Make a signing key and publish an empty catalog",
		Long: `Init makes a signing key, publishes the trust file and an empty catalog, and
remembers the store for the commands after it.

The key is encrypted with a passphrase, which init asks for on the terminal
unless $INETBOOT_PASSPHRASE or --passphrase-file has it. --no-passphrase leaves
the key unencrypted: whoever can read the file can then sign.

Keep the key folder: without the key, media that trust it cannot be told of
new images. If the folder has a key already, for instance because another
store uses it, init refuses to replace it; --use-key goes on with it.`,
		Example: `  imagetool init --to /srv/inetboot
  imagetool init --to s3://bucket/prefix --s3-endpoint https://minio.example.org:9000 --s3-region eu-central-1
  imagetool init --to https://boot.example.org/ --token-file /root/token --title "Example Inc."`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&o.useKey, "use-key", false, "use the key that is in the key folder")
	c.Flags().BoolVar(&o.plain, "no-passphrase", false, "leave the new key unencrypted")
	o.flags(c)
	c.Flags().StringVar(&o.title, "title", "InetBoot", "title of the menu")
	c.Flags().DurationVar(&o.expires, "expires", push.DefaultLifetime, "how long a catalog counts after it was signed")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.runInit(c.Context(), &o) }
	return c
}

func (a *app) runInit(ctx context.Context, o *initOptions) error {
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
	k, err := a.initKeys(ctx, o)
	if err != nil {
		return err
	}
	if err := push.Init(ctx, st, k, o.title, o.expires); err != nil {
		if !o.useKey {
			// Nothing has been signed for anybody with the new key.
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
	trust := filepath.Join(o.keys, keys.TrustFile)
	if a.json {
		return a.writeJSON(map[string]any{"to": o.to, "keys": o.keys, "key_id": k.ID(), "trust": trust, "config": name, "catalog": 1})
	}
	a.say("Store:    %s (catalog version 1)", st)
	a.say("Key:      %s in %s; keep a copy in a safe place", k.ID()[:12], o.keys)
	a.say("Settings: %s", name)
	a.say("")
	a.say("Next: imagetool push DIRECTORY-OR-TARBALL --name debian --version 12")
	a.say("      imagetool media --iso inetboot.iso --url URL-OF-THE-STORE -o my.iso")
	return nil
}

// initKeys makes a key, or takes the one that is there.
func (a *app) initKeys(ctx context.Context, o *initOptions) (*keys.Folder, error) {
	if o.useKey {
		if o.plain {
			return nil, &usageError{errors.New("--use-key makes no key: imagetool key passphrase --no-passphrase takes away the passphrase of the one that is there")}
		}
		return a.loadKeys(ctx, &o.where)
	}
	r, err := a.ring(&o.where)
	if err != nil {
		return nil, err
	}
	return keys.Generate(ctx, r, o.plain)
}
