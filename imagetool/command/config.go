package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// tokenVariable is the environment variable that holds a server's token.
const tokenVariable = "INETBOOT_TOKEN"

const (
	maxConfig = 64 << 10
	maxToken  = 4 << 10
)

// config is what init remembers for the commands after it.
type config struct {
	To        string `json:"to"`
	TokenFile string `json:"token_file,omitempty"`
	Keys      string `json:"keys"`
}

// configFile returns where the configuration is.
func (a *app) configFile() (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration: %w: name one with --config", err)
	}
	return filepath.Join(dir, "inetboot", "imagetool.json"), nil
}

// loadConfig reads the configuration. That there is none is no error.
func (a *app) loadConfig() (*config, error) {
	name, err := a.configFile()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var c config
	if err := strictjson.Unmarshal(data, maxConfig, &c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return &c, nil
}

func (a *app) saveConfig(c *config) (string, error) {
	name, err := a.configFile()
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	if err := writePrivate(name, append(data, '\n')); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return name, nil
}

// writePrivate replaces a file that only its owner may read.
func writePrivate(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // has mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// where are the flags that say which store and keys to use.
type where struct {
	to, token, tokenFile, keys      string
	passphraseFile                  string
	s3Endpoint, s3Region, s3Profile string
}

func (w *where) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.to, "to", "", "store: a directory, a server's base URL, or s3://bucket/prefix (default: as init remembered)")
	c.Flags().StringVar(&w.token, "token", "", "a server's token; better in a file, or in $"+tokenVariable)
	c.Flags().StringVar(&w.tokenFile, "token-file", "", "file with a server's token (default: as init remembered)")
	w.s3Flags(c)
	w.keyFlags(c)
}

// keyFlags are those of commands that need no store.
func (w *where) keyFlags(c *cobra.Command) {
	c.Flags().StringVar(&w.keys, "keys", "", "folder of the signing keys (default: as init remembered)")
	c.Flags().StringVar(&w.passphraseFile, "passphrase-file", "", "file with the passphrase of the signing keys; - is standard input (default: $"+passphraseVariable+", else asked for on the terminal)")
}

// s3Flags are the flags of stores in buckets.
func (w *where) s3Flags(c *cobra.Command) {
	c.Flags().StringVar(&w.s3Endpoint, "s3-endpoint", "", "base URL of the object store (default: $AWS_ENDPOINT_URL_S3, the profile's, Amazon's)")
	c.Flags().StringVar(&w.s3Region, "s3-region", "", "region of the bucket (default: $AWS_REGION, the profile's)")
	c.Flags().StringVar(&w.s3Profile, "s3-profile", "", "profile in ~/.aws (default: $AWS_ACCESS_KEY_ID, then $AWS_PROFILE)")
}

// resolve fills in what the configuration knows.
func (w *where) resolve(c *config) {
	if w.to == "" {
		w.to = c.To
	}
	// A token belongs to the store that it was given for.
	if w.tokenFile == "" && w.to == c.To {
		w.tokenFile = c.TokenFile
	}
	if w.keys == "" {
		w.keys = c.Keys
	}
}

// readToken returns the token: --token, the environment, or the file.
func (w *where) readToken() (string, error) {
	if w.token != "" {
		return w.token, nil
	}
	if t := os.Getenv(tokenVariable); t != "" {
		return strings.TrimSpace(t), nil
	}
	if w.tokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(w.tokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: read the token: %w", store.ErrUnauthorized, err)
	}
	if len(data) > maxToken {
		return "", fmt.Errorf("%w: %s is no token file: %d bytes", store.ErrUnauthorized, w.tokenFile, len(data))
	}
	return strings.TrimSpace(string(data)), nil
}

// open returns the store.
func (w *where) open(create bool) (store.Store, error) {
	if w.to == "" {
		return nil, &usageError{errors.New("which store? Name it with --to, or run imagetool init first")}
	}
	if w.s3Endpoint != "" || w.s3Region != "" || w.s3Profile != "" {
		var err error
		if w.to, err = store.S3Location(w.to, w.s3Endpoint, w.s3Region, w.s3Profile); err != nil {
			return nil, &usageError{err}
		}
	}
	token := ""
	if store.IsURL(w.to) {
		var err error
		if token, err = w.readToken(); err != nil {
			return nil, err
		}
	}
	return store.Open(w.to, token, create)
}

// defaultKeys returns where init makes keys if not told.
func (a *app) defaultKeys() (string, error) {
	name, err := a.configFile()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(name), "keys"), nil
}

// locate opens the store that a command uses, and fills in where the keys are.
func (a *app) locate(w *where) (store.Store, error) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	w.resolve(c)
	st, err := w.open(false)
	if err != nil {
		return nil, err
	}
	return st, a.findKeys(w)
}

// findKeys fills in where the keys are, for commands that need no store.
func (a *app) findKeys(w *where) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	w.resolve(c)
	if w.keys == "" {
		w.keys, err = a.defaultKeys()
	}
	return err
}

// load returns the store and the keys that a command uses.
func (a *app) load(ctx context.Context, w *where) (store.Store, *keys.Folder, error) {
	st, err := a.locate(w)
	if err != nil {
		return nil, nil, err
	}
	k, err := a.loadKeys(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	return st, k, nil
}

// loadCatalog returns the store and its newest catalog, for who only reads.
func (a *app) loadCatalog(ctx context.Context, w *where) (store.Store, *catalog.Catalog, error) {
	st, trust, err := a.loadTrust(w)
	if err != nil {
		return nil, nil, err
	}
	cat, _, err := push.Load(ctx, st, trust)
	return st, cat, err
}

// loadNames is loadCatalog for commands that look through all that the catalog
// lists.
func (a *app) loadNames(ctx context.Context, w *where) (store.Store, *catalog.Catalog, []string, error) {
	st, cat, err := a.loadCatalog(ctx, w)
	if err != nil {
		return nil, nil, nil, err
	}
	names, err := cat.Names(ctx)
	return st, cat, names, err
}

// loadTrust returns the store and where trust in it begins, for commands that
// only read: private keys are not needed.
func (a *app) loadTrust(w *where) (store.Store, keys.Trust, error) {
	st, err := a.locate(w)
	if err != nil {
		return nil, keys.Trust{}, err
	}
	trust, err := keys.LoadTrust(w.keys)
	return st, trust, err
}

// newest returns the catalog of the store, verified, for commands that only
// read.
func (a *app) newest(ctx context.Context, w *where) (*catalog.Catalog, error) {
	st, trust, err := a.loadTrust(w)
	if err != nil {
		return nil, err
	}
	c, _, err := push.Load(ctx, st, trust)
	return c, err
}
