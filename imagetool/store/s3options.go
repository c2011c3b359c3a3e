package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"gopkg.in/ini.v1"
)

// awsEndpoint is where buckets are if nobody names an endpoint.
const awsEndpoint = "https://s3.amazonaws.com"

// roleTimeout bounds asking a machine's metadata service for keys: most
// machines have none.
const roleTimeout = 5 * time.Second

// s3Options says where a bucket is.
type s3Options struct {
	bucket, prefix string // prefix is empty or has a slash at its end
	host           string // of the endpoint, with its port
	secure         bool
	region         string
	profile        string // "": AWS_PROFILE, or "default"
}

// parseS3 takes a location apart and fills in what the environment and the
// profile know.
func parseS3(location string) (*s3Options, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("store %q: %w (want s3://bucket/prefix?endpoint=https://host:port&region=name&profile=name)", location, fmt.Errorf(format, args...))
	}
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, bad("no bucket is named")
	}
	if err := s3utils.CheckValidBucketName(u.Host); err != nil {
		return nil, bad("bucket %q: %w", u.Host, err)
	}
	o := &s3Options{bucket: u.Host}
	if p := strings.Trim(u.Path, "/"); p != "" {
		o.prefix = p + "/"
	}
	q := u.Query()
	for k := range q {
		if k != "endpoint" && k != "region" && k != "profile" {
			return nil, bad("%q is no option", k)
		}
	}
	o.profile = q.Get("profile")
	endpoint := first(q.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), o.configured("endpoint_url"), awsEndpoint)
	o.region = first(q.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), o.configured("region"))
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	e, err := url.Parse(endpoint)
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || strings.Trim(e.Path, "/") != "" {
		return nil, bad("endpoint %q", endpoint)
	}
	o.host, o.secure = e.Host, e.Scheme == "https"
	return o, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// configured returns a value of the profile in the AWS configuration file.
func (o *s3Options) configured(key string) string {
	name := os.Getenv("AWS_CONFIG_FILE")
	if name == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		name = filepath.Join(home, ".aws", "config")
	}
	file, err := ini.Load(name)
	if err != nil {
		return "" // there is none, most often
	}
	profile := first(o.profile, os.Getenv("AWS_PROFILE"), "default")
	section := "profile " + profile
	if profile == "default" && !file.HasSection(section) {
		section = profile
	}
	s, err := file.GetSection(section)
	if err != nil {
		return ""
	}
	return s.Key(key).String()
}

// credentials looks for keys in the environment, in the profile's file, and
// at the machine's role. A profile that was named goes before the environment.
func (o *s3Options) credentials() *credentials.Credentials {
	env := &credentials.EnvAWS{}
	file := &credentials.FileAWSCredentials{Profile: o.profile}
	role := &credentials.IAM{Client: &http.Client{Timeout: roleTimeout}}
	if o.profile != "" {
		return credentials.NewChainCredentials([]credentials.Provider{file})
	}
	return credentials.NewChainCredentials([]credentials.Provider{env, file, role})
}

// S3Location returns location with the options that are not empty.
func S3Location(location, endpoint, region, profile string) (string, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "s3" {
		return "", errors.New("endpoint, region and profile are for s3://bucket/prefix")
	}
	q := u.Query()
	for k, v := range map[string]string{"endpoint": endpoint, "region": region, "profile": profile} {
		if v != "" {
			q.Set(k, v)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}
