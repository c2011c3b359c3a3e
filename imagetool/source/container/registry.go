package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/semaphore"

	"github.com/inetboot/inetboot/imagetool/source"
)

const (
	downloads = 3 // layers that are fetched at once
	attempts  = 4 // to fetch a layer
)

// Registry says how to reach a registry.
type Registry struct {
	// PlainHTTP asks without encryption. Registries on this machine are
	// asked that way in any case.
	PlainHTTP bool
	// CA is a file with certificates in PEM that are trusted, too; "": none.
	CA string
	// Certificate is a file in PEM with the certificate, and those between it
	// and its authority, to show to registries that ask for one; "": none but
	// those in Folders. Key is the file with its key; "": it is in the same one.
	Certificate, Key string
	// Folders have for registries, by HOST or HOST:PORT, folders with *.crt,
	// authorities, and *.cert and *.key, certificates to show; nil: those of podman and docker.
	Folders []string
	// Keychain has the passwords; nil: those of docker login and podman
	// login.
	Keychain authn.Keychain
	// Wait is how long to wait before a layer is asked for again; 0: one
	// second, and longer each time.
	Wait time.Duration
}

// Pull adds the image that ref names in a registry to b: HOST/NAME:TAG or
// HOST/NAME@DIGEST.
func (r Registry) Pull(ctx context.Context, b *source.Builder, ref string, o source.Options) error {
	var nopts []name.Option
	if r.PlainHTTP {
		nopts = append(nopts, name.Insecure)
	}
	at, err := name.ParseReference(ref, nopts...)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	p := &puller{Registry: r, o: o, repo: at.Context()}
	if p.Keychain == nil {
		p.Keychain = authn.DefaultKeychain
	}
	if p.Wait == 0 {
		p.Wait = time.Second
	}
	if p.transport, err = r.transport(p.repo.RegistryStr()); err != nil {
		return err
	}
	layers, err := p.layers(ctx, at)
	if err != nil {
		return fmt.Errorf("%s: %w", at, p.explain(err))
	}
	dctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	p.progress = newProgress(layers, o)
	p.fetch(dctx, layers, &wg)
	// The layers are reported while they are downloaded, not when they are read.
	if err := merge(ctx, b, layers, o, &progress{}); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// puller downloads one image.
type puller struct {
	Registry
	o         source.Options
	repo      name.Repository
	transport http.RoundTripper

	mu       sync.Mutex
	progress *progress
}

func (p *puller) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(p.Keychain), remote.WithTransport(p.transport), remote.WithUserAgent("inetboot-imagetool")}
}

// explain says what can be done about an error of a registry.
func (p *puller) explain(err error) error {
	if errors.Is(err, source.ErrUnreadable) || errors.Is(err, source.ErrRefused) || errors.Is(err, source.ErrNoRoom) || errors.Is(err, context.Canceled) {
		return err
	}
	if host := p.repo.RegistryStr(); untrusted(err) {
		return fmt.Errorf("%w: nobody who is trusted has signed the certificate of %s: name its authority with --registry-ca, or put it into /etc/containers/certs.d/%s/ca.crt: %w", source.ErrUnreadable, host, host, err)
	}
	if host := p.repo.RegistryStr(); refusedByAlert(err) {
		return fmt.Errorf("%w: %s refuses TLS with us: if it wants a client certificate, name one that it trusts with --registry-cert and --registry-key, or put it into /etc/containers/certs.d/%s/client.cert and client.key: %w", source.ErrUnreadable, host, host, err)
	}
	var t *transport.Error
	if errors.As(err, &t) {
		switch t.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			host := p.repo.RegistryStr()
			return fmt.Errorf("%w: %s does not let us in: use docker login %s or podman login %s: %w", source.ErrUnreadable, host, host, host, err)
		case http.StatusNotFound:
			return fmt.Errorf("%w: the registry does not have it: %w", source.ErrUnreadable, err)
		}
	}
	return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
}

// layers finds the image that is wanted, and its layers.
func (p *puller) layers(ctx context.Context, at name.Reference) ([]layer, error) {
	for range maxIndexes {
		d, err := remote.Get(at, p.options(ctx)...)
		if err != nil {
			return nil, err
		}
		if len(d.Manifest) > maxManifest {
			return nil, fmt.Errorf("%w: a manifest of %d bytes", source.ErrRefused, len(d.Manifest))
		}
		if d.MediaType.IsIndex() {
			index, err := v1.ParseIndexManifest(bytes.NewReader(d.Manifest))
			if err != nil {
				return nil, fmt.Errorf("%w: the index: %w", source.ErrUnreadable, err)
			}
			chosen, err := choose(index.Manifests, "", arch(p.o))
			if err != nil {
				return nil, err
			}
			at = p.repo.Digest(chosen.Digest.String())
			continue
		}
		if d.MediaType == types.DockerManifestSchema1 || d.MediaType == types.DockerManifestSchema1Signed {
			return nil, fmt.Errorf("%w: the image is in Docker's first format, which is not read: push it anew with a newer tool", source.ErrUnreadable)
		}
		m, err := v1.ParseManifest(bytes.NewReader(d.Manifest))
		if err != nil {
			return nil, fmt.Errorf("%w: the manifest: %w", source.ErrUnreadable, err)
		}
		if m.Config.Size > maxConfig {
			return nil, fmt.Errorf("%w: a configuration of %d bytes", source.ErrRefused, m.Config.Size)
		}
		img, err := d.Image()
		if err != nil {
			return nil, err
		}
		raw, err := img.RawConfigFile()
		if err != nil {
			return nil, err
		}
		config, err := parseConfig(raw)
		if err != nil {
			return nil, err
		}
		return layersOf(m, config, nil)
	}
	return nil, fmt.Errorf("%w: more than %d indexes lie in each other", source.ErrRefused, maxIndexes)
}

// fetch begins to download the layers, and has their open wait for that.
func (p *puller) fetch(ctx context.Context, layers []layer, wg *sync.WaitGroup) {
	sem := semaphore.NewWeighted(downloads)
	type result struct {
		f   *os.File
		err error
	}
	results := make([]chan result, len(layers))
	for i := range layers {
		results[i] = make(chan result, 1)
		layers[i].open = func() (io.ReadCloser, error) {
			select {
			case r := <-results[i]:
				if r.err != nil {
					return nil, p.explain(r.err)
				}
				return &download{r.f, layers[i].size}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	wg.Go(func() {
		var running sync.WaitGroup
		for i, l := range layers {
			if sem.Acquire(ctx, 1) != nil {
				break
			}
			running.Go(func() {
				defer sem.Release(1)
				f, err := p.download(ctx, l)
				results[i] <- result{f, err}
			})
		}
		running.Wait()
		<-ctx.Done()
		for _, c := range results { // what nobody has asked for
			select {
			case r := <-c:
				if r.f != nil {
					_ = r.f.Close()
				}
			default:
			}
		}
	})
}

// download is a layer that has been downloaded.
type download struct {
	*os.File
	size int64
}

func (d *download) Size() int64 { return d.size }

// download fetches a layer into a temporary file without a name. The registry
// library compares size and digest.
func (p *puller) download(ctx context.Context, l layer) (*os.File, error) {
	f, err := source.TempFile(p.o.TempDir)
	if err != nil {
		return nil, err
	}
	wait := p.Wait
	for attempt := 1; ; attempt++ {
		n, err := p.copyLayer(ctx, f, l)
		if err == nil {
			if _, err = f.Seek(0, io.SeekStart); err == nil {
				return f, nil
			}
		}
		if attempt == attempts || ctx.Err() != nil || errors.Is(err, source.ErrNoRoom) || permanent(err) {
			return nil, errors.Join(err, f.Close())
		}
		p.report(-n)
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}

// permanent tells whether asking again is of no use.
func permanent(err error) bool {
	var t *transport.Error
	return errors.As(err, &t) && !t.Temporary() && t.StatusCode/100 == 4
}

func (p *puller) copyLayer(ctx context.Context, f *os.File, l layer) (n int64, err error) {
	if err := f.Truncate(0); err != nil {
		return 0, fmt.Errorf("empty a temporary file: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("rewind a temporary file: %w", err)
	}
	remoteLayer, err := remote.Layer(p.repo.Digest(l.digest), p.options(ctx)...)
	if err != nil {
		return 0, err
	}
	r, err := remoteLayer.Compressed()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf := make([]byte, 256<<10)
	for {
		k, rerr := r.Read(buf)
		if n+int64(k) > l.size {
			return n, fmt.Errorf("%w: a layer is longer than the %d bytes that the manifest says", source.ErrRefused, l.size)
		}
		if _, err := f.Write(buf[:k]); err != nil {
			return n, source.RoomError(fmt.Errorf("keep a layer: %w", err))
		}
		n += int64(k)
		p.report(int64(k))
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return n, rerr
		}
	}
	if n != l.size {
		return n, fmt.Errorf("a layer has %d bytes, the manifest says %d", n, l.size)
	}
	return n, nil
}

func (p *puller) report(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.done += n
	if p.progress.report != nil {
		p.progress.report(p.progress.done, p.progress.total)
	}
}
