-- The table of the tour and who lives in it. deploy/quickstart loads this into its throwaway database: the table
-- fabric.user_data, and in schema quickstart the writer: CALL quickstart.write(changes per second).

CREATE SCHEMA fabric;
CREATE TABLE fabric.user_data (
    id uuid PRIMARY KEY,
    name text,
    gender text,
    address text,
    latitude numeric(9,6),
    longitude numeric(9,6),
    timezone text,
    email text,
    phone text,
    cell text,
    date_of_birth timestamp,
    registered_date timestamp,
    picture_url text,
    insertion_time timestamp DEFAULT now()
);

CREATE SCHEMA quickstart;

-- In layout, zip, phone and cell a # becomes a random digit.
CREATE TABLE quickstart.place (
    city text, latitude numeric, longitude numeric, timezone text,
    layout text, zip text, phone text, cell text,
    streets text[], women text[], men text[], families text[]
);

INSERT INTO quickstart.place
SELECT c.city, c.latitude, c.longitude, c.timezone, l.layout, c.zip, c.phone, l.cell, l.streets, l.women, l.men, l.families
FROM (VALUES
    ('de', 'Berlin', 52.5200, 13.4050, 'Europe/Berlin', '10###', '+49 30 ########'),
    ('de', 'Hamburg', 53.5511, 9.9937, 'Europe/Berlin', '20###', '+49 40 #######'),
    ('de', 'Wien', 48.2082, 16.3738, 'Europe/Vienna', '1##0', '+43 1 #######'),
    ('en', 'London', 51.5074, -0.1278, 'Europe/London', 'SE# #AB', '+44 20 7### ####'),
    ('en', 'Dublin', 53.3498, -6.2603, 'Europe/Dublin', 'D0# X###', '+353 1 ### ####'),
    ('us', 'Chicago, IL', 41.8781, -87.6298, 'America/Chicago', '606##', '+1 312 555 ####'),
    ('us', 'Denver, CO', 39.7392, -104.9903, 'America/Denver', '802##', '+1 303 555 ####'),
    ('us', 'Portland, OR', 45.5152, -122.6784, 'America/Los_Angeles', '972##', '+1 503 555 ####'),
    ('fr', 'Lyon', 45.7640, 4.8357, 'Europe/Paris', '6900#', '+33 4 ## ## ## ##'),
    ('fr', 'Bordeaux', 44.8378, -0.5792, 'Europe/Paris', '33#00', '+33 5 ## ## ## ##'),
    ('fr', 'Montréal', 45.5019, -73.5674, 'America/Toronto', 'H2X #K#', '+1 514 555 ####'),
    ('es', 'Sevilla', 37.3891, -5.9845, 'Europe/Madrid', '4100#', '+34 95# ### ###'),
    ('es', 'Buenos Aires', -34.6037, -58.3816, 'America/Argentina/Buenos_Aires', 'C10##', '+54 11 #### ####'),
    ('pl', 'Kraków', 50.0647, 19.9450, 'Europe/Warsaw', '30-###', '+48 12 ### ## ##'),
    ('pl', 'Łódź', 51.7592, 19.4560, 'Europe/Warsaw', '90-###', '+48 42 ### ## ##'),
    ('pt', 'Porto', 41.1579, -8.6291, 'Europe/Lisbon', '40##-###', '+351 22 ### ####'),
    ('pt', 'São Paulo', -23.5505, -46.6333, 'America/Sao_Paulo', '01###-###', '+55 11 #### ####'),
    ('jp', '京都市', 35.0116, 135.7681, 'Asia/Tokyo', '60#-####', '+81 75 ### ####')
) AS c (lang, city, latitude, longitude, timezone, zip, phone)
JOIN (VALUES
    ('de', '{street} {number}, {zip} {city}', '+49 17# ########',
        '{Lindenallee,Gartenstraße,Am Kanal,Schillerplatz,Mühlweg,Zum Alten Wasserturm}'::text[],
        '{Anna,Jule,Mareike,Käthe,Sabine,Zoë}'::text[], '{Jonas,Jürgen,Bernd,Emre,Lukas,Matthäus}'::text[],
        '{Müller,Schäfer,Weiß,Yılmaz,Vogel,"von Bülow"}'::text[]),
    ('en', '{number} {street}, {city} {zip}', '+44 77## ######',
        '{King''s Road,Mill Lane,Station Terrace,Abbey Close,Harbour Street}', '{Siân,Olivia,Grace,Maeve,Priya}',
        '{Oliver,Declan,George,Arjun,Finn}', '{O''Brien,Smith,Patel,Hughes,"Carter-Jones"}'),
    ('us', '{number}## {street}, {city} {zip}', '+1 872 555 ####',
        '{Maple Street,Cedar Avenue,Lakeview Drive,2nd Street,Martin Luther King Jr Blvd}',
        '{Emily,Aaliyah,Sofía,Grace,Mei}', '{James,Malik,Ethan,Diego,Wei}', '{Johnson,Nguyen,García,Williams,D''Angelo}'),
    ('fr', '{number} {street}, {zip} {city}', '+33 6 ## ## ## ##',
        '{rue de l''Église,avenue Foch,quai des Célestins,impasse du Moulin}', '{Chloé,Inès,Éloïse,Margot}',
        '{Théo,Lucas,Étienne,Karim}', '{Lefèvre,Dupont,"L''Hôte",Benali}'),
    ('es', '{street} {number}, {zip} {city}', '+34 6## ### ###',
        '{Calle Betis,Avenida de la Constitución,Calle Feria,Pasaje Núñez}', '{Lucía,Carmen,Martina,Begoña}',
        '{Hugo,Íñigo,Martín,Álvaro}', '{Muñoz,Fernández,Iglesias,"Ruiz de la Peña"}'),
    ('pl', 'ul. {street} {number}, {zip} {city}', '+48 6## ### ###',
        '{Długa,Świętego Jana,Piotrkowska,Wąska}', '{Zofia,Małgorzata,Agnieszka}', '{Łukasz,Stanisław,Wojciech}',
        '{Nowak,Wójcik,Dąbrowski}'),
    ('pt', '{street}, {number}, {zip} {city}', '+351 91# ### ###',
        '{Rua das Flores,Travessa de São João,Avenida Brasil}', '{Inês,Beatriz,Conceição}', '{João,Tomás,Gonçalo}',
        '{Silva,Magalhães,"de Araújo"}'),
    ('jp', '〒{zip} {city}{street}{number}番', '+81 90 #### ####',
        '{河原町通,烏丸通,錦小路}', '{さくら,美咲,陽菜}', '{蓮,大翔,健太}', '{佐藤,鈴木,高橋}')
) AS l (lang, layout, cell, streets, women, men, families) USING (lang);

CREATE FUNCTION quickstart.pick(choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;

CREATE FUNCTION quickstart.digits(pattern text) RETURNS text LANGUAGE sql VOLATILE AS
$$
SELECT string_agg(CASE c WHEN '#' THEN floor(random() * 10)::int::text ELSE c END, '' ORDER BY i)
FROM regexp_split_to_table(pattern, '') WITH ORDINALITY AS t (c, i)
$$;

-- Where somebody lives: address, coordinates and time zone that belong together.
CREATE FUNCTION quickstart.settle(INOUT who fabric.user_data, place quickstart.place) LANGUAGE plpgsql VOLATILE AS
$$
BEGIN
    who.address := replace(replace(replace(replace(place.layout, '{street}', quickstart.pick(place.streets)),
        '{number}', (1 + floor(random() * 120))::int::text), '{zip}', place.zip), '{city}', place.city);
    who.address := quickstart.digits(who.address);
    who.latitude := place.latitude + (random() - 0.5)::numeric * 0.08;
    who.longitude := place.longitude + (random() - 0.5)::numeric * 0.08;
    who.timezone := place.timezone;
    who.phone := CASE WHEN random() < 0.9 THEN quickstart.digits(place.phone) END;
END
$$;

-- An address of the domains that RFC 2606 keeps for examples: nobody gets mail by accident.
CREATE FUNCTION quickstart.mail(name text) RETURNS text LANGUAGE sql VOLATILE AS
$$
SELECT CASE WHEN plain = '' THEN 'user' ELSE plain END || quickstart.digits('###') || '@example.'
    || quickstart.pick('{com,net,org}')
FROM trim(BOTH '.' FROM regexp_replace(
    translate(lower(name), 'äöüßáâãçéèêëíïñóôõúłśąęźżćńıŁÉÁÍÓŚÇ', 'aousaaaceeeeiinoooulsaezzcnileaiosc'),
    '[^a-z0-9]+', '.', 'g')) AS plain
$$;

CREATE FUNCTION quickstart.person() RETURNS fabric.user_data LANGUAGE plpgsql VOLATILE AS
$$
DECLARE
    who fabric.user_data;
    place quickstart.place;
    is_woman boolean := random() < 0.5;
BEGIN
    SELECT * INTO place FROM quickstart.place ORDER BY random() LIMIT 1;
    who.id := gen_random_uuid();
    who.name := quickstart.pick(CASE WHEN is_woman THEN place.women ELSE place.men END) || ' '
        || quickstart.pick(place.families);
    who.gender := CASE WHEN random() < 0.02 THEN 'non-binary' WHEN is_woman THEN 'female' ELSE 'male' END;
    who := quickstart.settle(who, place);
    who.email := quickstart.mail(who.name);
    who.cell := CASE WHEN random() < 0.8 THEN quickstart.digits(place.cell) END;
    who.date_of_birth := date_trunc('day', localtimestamp - random() * interval '72 years') - interval '18 years';
    who.registered_date := date_trunc('second', localtimestamp - random() * interval '10 years');
    who.picture_url := 'https://pictures.example.org/' || who.gender || quickstart.digits('/##.jpg');
    who.insertion_time := now();
    RETURN who;
END
$$;

CREATE FUNCTION quickstart.arrive() RETURNS uuid LANGUAGE sql VOLATILE AS
$$ INSERT INTO fabric.user_data SELECT p.* FROM quickstart.person() AS p RETURNING id $$;

-- Somebody who is there: the first id behind a random one, so that it takes no scan.
CREATE FUNCTION quickstart.anyone() RETURNS fabric.user_data LANGUAGE plpgsql VOLATILE AS
$$
DECLARE
    who fabric.user_data;
BEGIN
    SELECT * INTO who FROM fabric.user_data WHERE id >= gen_random_uuid() ORDER BY id LIMIT 1;
    IF NOT FOUND THEN
        SELECT * INTO who FROM fabric.user_data ORDER BY id LIMIT 1;
    END IF;
    RETURN who;
END
$$;

CREATE FUNCTION quickstart.change_somebody() RETURNS void LANGUAGE plpgsql VOLATILE AS
$$
DECLARE
    who fabric.user_data := quickstart.anyone();
    place quickstart.place;
    what float8 := random();
BEGIN
    IF what < 0.4 THEN -- moves
        SELECT * INTO place FROM quickstart.place ORDER BY random() LIMIT 1;
        who := quickstart.settle(who, place);
        UPDATE fabric.user_data SET (address, latitude, longitude, timezone, phone)
            = (who.address, who.latitude, who.longitude, who.timezone, who.phone) WHERE id = who.id;
    ELSIF what < 0.7 THEN
        UPDATE fabric.user_data SET email = quickstart.mail(name) WHERE id = who.id;
    ELSIF what < 0.9 THEN
        UPDATE fabric.user_data SET cell = quickstart.digits('+49 16# #######') WHERE id = who.id;
    ELSE -- withdraws what need not be known
        UPDATE fabric.user_data SET cell = NULL, picture_url = NULL WHERE id = who.id;
    END IF;
END
$$;

-- One change; returns by how much the number of people has grown. It settles around 5,000.
CREATE FUNCTION quickstart.change(people bigint) RETURNS integer LANGUAGE plpgsql VOLATILE AS
$$
DECLARE
    what float8 := random();
    leave float8 := CASE WHEN people < 10 THEN 0 WHEN people < 5000 THEN 0.15 ELSE 0.5 END;
BEGIN
    IF people < 10 OR what < 0.5 - leave / 2 THEN
        PERFORM quickstart.arrive();
        RETURN 1;
    ELSIF what > 1 - leave THEN
        DELETE FROM fabric.user_data WHERE id = (SELECT id FROM quickstart.anyone());
        RETURN -1;
    END IF;
    PERFORM quickstart.change_somebody();
    RETURN 0;
END
$$;

-- Never returns. Up to 200 per second a transaction is one change, and one in ten is three; beyond that they grow,
-- since each waits for the disk. What a busy machine cannot do in time is not made up for by a burst.
CREATE PROCEDURE quickstart.write(per_second numeric) LANGUAGE plpgsql AS
$$
DECLARE
    began timestamptz := clock_timestamp();
    done bigint := 0;
    people bigint;
    ahead float8;
BEGIN
    SELECT count(*) INTO people FROM fabric.user_data;
    LOOP
        FOR i IN 1 .. CASE WHEN random() < 0.1 THEN 3 ELSE 1 END * ceil(per_second / 200)::int LOOP
            people := people + quickstart.change(people);
            done := done + 1;
        END LOOP;
        COMMIT;
        ahead := extract(epoch FROM began - clock_timestamp()) + done / per_second;
        IF ahead > 0 THEN
            PERFORM pg_sleep(ahead);
        ELSIF ahead < -1 THEN
            began := clock_timestamp();
            done := 0;
        END IF;
    END LOOP;
END
$$;

ALTER SCHEMA fabric OWNER TO oneslot;
ALTER TABLE fabric.user_data OWNER TO oneslot;
